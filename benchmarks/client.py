"""The load: many streams read in one process. It only takes down what comes, and when."""

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
from .server import PATIENCE

AT_ONCE: Final = 200
"""Connections that are opened at a time: fewer than a server lets wait."""

STAMP_SIZE: Final = 20
EVENT: Final = re.compile(rb'"((?:\d{20})+)"[^\r\n]*(?:\r\n\r\n|\n\n)')
"""An event from its stamp to its end. A merged one has the stamps of all that are in it."""

Times = npt.NDArray[np.int64]


def request(path: str, **query: object) -> bytes:
    """A request as it goes over the wire."""
    search = "&".join(f"{name}={value}" for name, value in query.items())
    return f"GET {path}?{search} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


class Stream(asyncio.Protocol):
    """One connection with one response that streams."""

    def __init__(self, request: bytes, *, keep: bool = True) -> None:
        self.reads: list[tuple[int, bytes]] = []
        """What came, and when. With `keep=False` only the first."""
        self.asked = 0
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
        self.ask()

    def ask(self) -> None:
        assert self._transport is not None  # connected
        self.asked = time.monotonic_ns()
        self._transport.write(self._request)

    def ask_again(self) -> None:
        """The same request, on the same connection."""
        self.reads = []
        self.ended = asyncio.get_running_loop().create_future()
        self.ask()

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
    """Streams that have been asked for; at the end the clients leave."""
    streams = [Stream(each, keep=keep) for each in requests]
    try:
        for first in range(0, len(streams), AT_ONCE):
            group = streams[first : first + AT_ONCE]
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(stream.connect(port) for stream in group))
        yield streams
    finally:
        for stream in streams:
            stream.leave()


async def all_started(streams: Iterable[Stream]) -> None:
    async with asyncio.timeout(2 * PATIENCE):
        for stream in streams:
            await stream.started


async def all_ended(streams: Iterable[Stream]) -> None:
    async with asyncio.timeout(4 * PATIENCE):
        for stream in streams:
            await stream.ended


async def get(port: int, path: str, **query: object) -> Any:
    """The JSON that a server answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = request(path, **query)
    writer.write(head[:-2] + b"Connection: close\r\n\r\n")
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
    finally:
        writer.close()
    return json.loads(answer.partition(b"\r\n\r\n")[2])


async def get_stats(port: int, **query: object) -> Stats:
    """The figures of a server. `watch=1`: from here on it looks at its loop."""
    return cast("Stats", await get(port, "/stats", **query))


class Arrivals(NamedTuple):
    """When things came, in nanoseconds of the monotonic clock."""

    stamps: Times
    """When each event was produced."""
    events: Times
    """When the last byte of each was read. Events that are merged are read together."""
    chunks: Times
    """The same for HTTP chunks: one for each write of the app or the middleware."""
    reads: Times
    sizes: Times
    """Bytes of each read."""

    def between(self, begin: int, end: int) -> Arrivals:
        """What was read in that time."""

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
    """What came on all of them together."""
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
        """When so many bytes had been read."""
        return times[np.searchsorted(ends, offsets)]

    chunks = np.array(list(chunk_ends(raw)), dtype=np.int64)
    return Arrivals(stamps, when(event_ends), when(chunks), times, sizes)


def chunk_ends(raw: bytes) -> Iterable[int]:
    """Where the HTTP chunks of a response end; the last, which is empty, is none."""
    position = raw.find(b"\r\n\r\n") + 4
    while (line := raw.find(b"\r\n", position)) > 0:
        size = int(raw[position:line], 16)
        position = line + 2 + size + 2
        if not size or position > len(raw):
            return
        yield position
