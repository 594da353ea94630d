"""Client that reads many streams in one process, and records what arrives, and when."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from .meter import Stats
from .server import TIMEOUT

CONNECTIONS_AT_A_TIME: Final = 200
"""Connections that are opened at a time, which is less than the backlog of a server."""

STAMP_SIZE: Final = 20
EVENT: Final = re.compile(rb'"((?:\d{20})+)"[^\r\n]*(?:\r\n\r\n|\n\n)')
"""Matches an event from its stamp to its end. A merged event has the stamps of all its deltas."""

Times = npt.NDArray[np.int64]


def request(path: str, **query: object) -> bytes:
    """Return a request as it goes over the wire."""
    search = "&".join(f"{name}={value}" for name, value in query.items())
    return f"GET {path}?{search} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


class Stream(asyncio.Protocol):
    """Connection that reads one streamed response at a time."""

    def __init__(self, request: bytes, *, keep: bool = True) -> None:
        self.reads: list[tuple[int, bytes]] = []
        """Data that arrived, and when. With `keep=False`, only the first read."""
        self.requested_at = 0
        self.started = asyncio.get_running_loop().create_future()
        self.ended = asyncio.get_running_loop().create_future()
        self._request = request
        self._keep = keep
        self._transport: asyncio.Transport | None = None

    async def connect(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, "127.0.0.1", port)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.send_request()

    def send_request(self) -> None:
        assert self._transport is not None  # connected
        self.requested_at = time.monotonic_ns()
        self._transport.write(self._request)

    def repeat_request(self) -> None:
        """Send the same request again, on the same connection."""
        self.reads = []
        self.ended = asyncio.get_running_loop().create_future()
        self.send_request()

    def data_received(self, data: bytes) -> None:
        if self._keep or not self.reads:
            self.reads.append((time.monotonic_ns(), data))
        if not self.started.done():
            self.started.set_result(None)
        if data.endswith(b"0\r\n\r\n") and not self.ended.done():
            self.ended.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        for future in (self.started, self.ended):
            if not future.done():
                future.set_result(None)

    def leave(self) -> None:
        if self._transport is not None:
            self._transport.abort()


@asynccontextmanager
async def streaming(
    port: int, requests: Sequence[bytes], *, keep: bool = True
) -> AsyncIterator[list[Stream]]:
    """Open the streams, and close their connections at the end."""
    streams = [Stream(each, keep=keep) for each in requests]
    try:
        for first in range(0, len(streams), CONNECTIONS_AT_A_TIME):
            group = streams[first : first + CONNECTIONS_AT_A_TIME]
            async with asyncio.timeout(TIMEOUT):
                await asyncio.gather(*(stream.connect(port) for stream in group))
        yield streams
    finally:
        for stream in streams:
            stream.leave()


async def all_started(streams: Iterable[Stream]) -> None:
    async with asyncio.timeout(2 * TIMEOUT):
        for stream in streams:
            await stream.started


async def all_ended(streams: Iterable[Stream]) -> None:
    async with asyncio.timeout(4 * TIMEOUT):
        for stream in streams:
            await stream.ended


async def get(port: int, path: str, **query: object) -> Any:
    """Return the JSON that a server answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = request(path, **query)
    writer.write(head[:-2] + b"Connection: close\r\n\r\n")
    try:
        async with asyncio.timeout(TIMEOUT):
            answer = await reader.read()
    finally:
        writer.close()
    return json.loads(answer.partition(b"\r\n\r\n")[2])


async def get_stats(port: int, **query: object) -> Stats:
    """Return the figures of a server. `watch=1` begins to measure the latency of its event loop."""
    return cast("Stats", await get(port, "/stats", **query))


class Arrivals(NamedTuple):
    """Times of a response, in nanoseconds of the monotonic clock."""

    stamps: Times
    """When each event was produced."""
    events: Times
    """When the last byte of each event was read. Merged events are read together."""
    chunks: Times
    """When each HTTP chunk was read. A write of the app or the middleware is one HTTP chunk."""
    reads: Times
    """When each read of the client returned."""
    sizes: Times
    """Bytes of each read."""

    def between(self, begin: int, end: int) -> Arrivals:
        """Return what was read in that time."""

        def within(times: Times) -> npt.NDArray[np.bool_]:
            return (times >= begin) & (times < end)

        events, reads = within(self.events), within(self.reads)
        return Arrivals(
            self.stamps[events],
            self.events[events],
            self.chunks[within(self.chunks)],
            self.reads[reads],
            self.sizes[reads],
        )


def arrivals(streams: Iterable[Stream]) -> Arrivals:
    """Return what arrived on all the streams together."""
    each = [arrivals_of(stream.reads) for stream in streams]
    return Arrivals(*(np.concatenate(columns) for columns in zip(*each, strict=True)))


def arrivals_of(reads: Sequence[tuple[int, bytes]]) -> Arrivals:
    raw = b"".join(data for _, data in reads)
    times = np.array([at for at, _ in reads], dtype=np.int64)
    sizes = np.array([len(data) for _, data in reads], dtype=np.int64)
    ends = np.cumsum(sizes)
    found = [
        (match.end(), int(match[1][at : at + STAMP_SIZE]))
        for match in EVENT.finditer(raw)
        for at in range(0, len(match[1]), STAMP_SIZE)
    ]
    event_ends, stamps = np.array(found, dtype=np.int64).reshape(-1, 2).T

    def when(offsets: Times) -> Times:
        """Return when that number of bytes had been read."""
        return times[np.searchsorted(ends, offsets)]

    chunks = np.array(list(chunk_ends(raw)), dtype=np.int64)
    return Arrivals(stamps, when(event_ends), when(chunks), times, sizes)


def chunk_ends(raw: bytes) -> Iterable[int]:
    """Yield where the HTTP chunks of a response end. The empty last chunk is not counted."""
    position = raw.find(b"\r\n\r\n") + 4
    while (line := raw.find(b"\r\n", position)) > 0:
        size = int(raw[position:line], 16)
        position = line + 2 + size + 2
        if not size or position > len(raw):
            return
        yield position
