"""The workloads, and how they are measured."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np

from .client import (
    Arrivals,
    Stream,
    all_ended,
    all_started,
    arrivals,
    get,
    get_stats,
    request,
    streaming,
)
from .meter import Stats
from .server import Server, serving

Figures = dict[str, float]
"""Figures of one rival in one workload. `report.COLUMNS` says what they mean."""

Measured = dict[str, Figures]
"""Figures by rival."""

WARM_UP: Final = 0.5
"""Seconds at the beginning of a stream that are not measured."""


class Effort(NamedTuple):
    """How long, and with how many streams and requests, everything is measured."""

    seconds: float
    flat_events: int
    """Events of each stream that runs flat out."""
    firsts: int
    """Number of streams that are opened one after another."""
    idle_streams: int
    requests: int


FULL: Final = Effort(seconds=2.5, flat_events=4000, firsts=200, idle_streams=1000, requests=24_000)
QUICK: Final = Effort(seconds=0.4, flat_events=500, firsts=40, idle_streams=300, requests=2_400)

BARE: Final = "bare"
SIMPLEST: Final = "simplest"
PRODUCTION: Final = "production"
MIDDLEWARE: Final = "middleware"
STREAMS: Final = (PRODUCTION, BARE, "by-hand", "sse-starlette", "fastapi", MIDDLEWARE)
IN_DETAIL: Final = (*STREAMS, SIMPLEST, "merging")


class Workload(NamedTuple):
    """Workload, and the rivals that it is given to."""

    title: str
    measure: Callable[[Mapping[str, Server], Effort], Awaitable[Measured]]
    rivals: Sequence[str] = STREAMS
    base: str = BARE
    """Rival that the others are compared with."""


# Streams.


async def flat_out(server: Server, streams: int, effort: Effort) -> Figures:
    """Measure streams whose producers never wait, from beginning to end."""
    requests = [request("/stream", count=effort.flat_events)] * streams
    before = await get_stats(server.port, watch=1)
    client = time.process_time()
    async with streaming(server.port, requests) as opened:
        await all_ended(opened)
        client = time.process_time() - client
        after = await get_stats(server.port, watch=0)
    arrived = await asyncio.to_thread(arrivals, opened)
    if server.name != PRODUCTION and len(arrived.events) != streams * effort.flat_events:
        raise RuntimeError(f"{server.name}: {len(arrived.events)} events have arrived")
    return server_figures(before, after, client) | client_figures(arrived) | first_figures(opened)


async def paced(server: Server, streams: int, rate: float, effort: Effort) -> Figures:
    """Measure streams with that number of events a second, each with a phase of its own.

    The beginning and the end of the streams are not measured.
    """
    chance = random.Random(streams)
    settling = 1 / rate + WARM_UP  # until the last stream has begun, and a while more
    count = int((settling + effort.seconds + 0.2) * rate) + 1
    requests = [
        request("/stream", count=count, rate=rate, phase=(1 - chance.random()) / rate)
        for _ in range(streams)
    ]
    async with streaming(server.port, requests) as opened:
        await all_started(opened)
        await get(server.port, "/go")
        await asyncio.sleep(settling)
        before = await get_stats(server.port, watch=1)
        client = time.process_time()
        await asyncio.sleep(effort.seconds)
        client = time.process_time() - client
        after = await get_stats(server.port, watch=0)
        await all_ended(opened)
    arrived = await asyncio.to_thread(arrivals, opened)
    measured = client_figures(arrived.between(before["wall_ns"], after["wall_ns"]))
    return server_figures(before, after, client) | measured | first_figures(opened)


def server_figures(before: Stats, after: Stats, client: float) -> Figures:
    produced = after["produced"] - before["produced"]
    cpu = after["cpu_ns"] - before["cpu_ns"]
    wall = after["wall_ns"] - before["wall_ns"]
    return {
        "events": produced,
        "cpu_us": cpu / produced / 1000,
        "busy": cpu / wall,
        "client_busy": client / (wall / 1e9),
        "write_calls": (after["write_calls"] - before["write_calls"]) / produced,
        "stall_p99_ms": after["stall_p99"] * 1000,
        "stall_max_ms": after["stall_max"] * 1000,
    }


def client_figures(arrived: Arrivals) -> Figures:
    events = len(arrived.events)
    if not events:
        return {}
    p50, p99, most = percentiles((arrived.events - arrived.stamps) / 1e6)
    return {
        "writes": len(arrived.chunks) / events,
        "reads": len(arrived.reads) / events,
        "bytes": float(arrived.sizes.sum()) / events,
        "delay_p50_ms": p50,
        "delay_p99_ms": p99,
        "delay_max_ms": most,
    }


def percentiles(values: Any) -> tuple[float, float, float]:
    """Return the median, the 99th percentile and the largest of the values."""
    p50, p99, most = np.percentile(values, [50, 99, 100])
    return float(p50), float(p99), float(most)


def first_figures(streams: Sequence[Stream]) -> Figures:
    """Return the time from the production of a stream's first event until it is read."""
    delays = [event - stamp for event, stamp in map(first_of, streams) if stamp]
    return {"first_ms": float(np.median(delays)) / 1e6} if delays else {}


def first_of(stream: Stream) -> tuple[int, int]:
    """Return when the first event was read, and when it was produced, or zeros if there is none."""
    arrived = arrivals([stream])
    return (int(arrived.events[0]), int(arrived.stamps[0])) if len(arrived.events) else (0, 0)


async def first_chunks(server: Server, effort: Effort) -> Figures:
    """Measure streams of a few events, opened one after another on one connection."""
    delays, answers = [], []
    short = request("/stream", count=3, rate=100)
    async with streaming(server.port, [short]) as (stream,):
        await stream.ended
        for _ in range(effort.firsts):
            stream.repeat_request()
            await stream.ended
            event, stamp = first_of(stream)
            delays.append(event - stamp)
            answers.append(event - stream.requested_at)
    if not any(delays):
        return {}
    return {
        "first_ms": float(np.median(delays)) / 1e6,
        "first_p99_ms": percentiles(delays)[1] / 1e6,
        "answer_ms": float(np.median(answers)) / 1e6,
    }


LEAD: Final = 0.005
"""Seconds from the first chunk, which has no text, to the first text."""


async def first_text(server: Server, effort: Effort) -> Figures:
    """Measure streams that begin as those of LLMs: a chunk without text, 5 ms later the first text,
    and then 80 events a second. All chunks look alike here, as the middleware does not read them.
    """
    answers = []
    begun = request("/stream", count=8, rate=80, lead=LEAD)
    async with streaming(server.port, [begun]) as (stream,):
        await stream.ended
        for _ in range(effort.firsts // 5):
            stream.repeat_request()
            await stream.ended
            answers.append(int(arrivals([stream]).events[1]) - stream.requested_at)
    return {"text_ms": float(np.median(answers)) / 1e6}


async def memory(name: str, effort: Effort) -> Figures:
    """Measure the memory of open streams that have sent an event and now wait, on a new server."""
    with serving(name) as server:
        requests = [request("/stream", count=2, rate=0.001)] * effort.idle_streams
        async with streaming(server.port, requests[:1]) as one:
            await all_started(one)
            before = await get_stats(server.port)
            async with streaming(server.port, requests) as opened:
                await all_started(opened)
                await asyncio.sleep(0.5)
                after = await get_stats(server.port)
        assert after["produced"] - before["produced"] == len(requests)
        return {"memory_kib": (after["rss"] - before["rss"]) / len(requests) / 1024}


# Requests that do not stream.

CONNECTIONS: Final = 16
SLICES: Final = 10


@contextmanager
def connections(port: int) -> Iterator[list[socket.socket]]:
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def request_all(clients: Sequence[socket.socket], times: int) -> None:
    """Send that number of requests on each connection, and read the responses."""
    hello = request("/hello")
    for _ in range(times):
        for client in clients:
            client.sendall(hello)
        for client in clients:
            while not client.recv(65_536).endswith(b"}"):  # uvicorn sends head and body separately
                pass


async def answers(servers: Mapping[str, Server], effort: Effort) -> Measured:
    """Measure requests on kept-alive connections. The rivals take turns, a slice at a time."""
    used = dict.fromkeys(servers, 0)
    times = max(1, effort.requests // SLICES // CONNECTIONS)
    for number in range(-1, SLICES):  # the first slice warms up
        order = list(servers)[:: 1 if number % 2 else -1]
        for name in order:
            port = servers[name].port
            with connections(port) as clients:
                before = await get_stats(port)
                request_all(clients, times)
                after = await get_stats(port)
            if number >= 0:
                used[name] += after["cpu_ns"] - before["cpu_ns"]
    total = SLICES * times * CONNECTIONS
    return {name: {"cpu_us": cpu / total / 1000} for name, cpu in used.items()}


# The list.


def one_by_one(
    one: Callable[[Server, Effort], Awaitable[Figures]],
) -> Callable[[Mapping[str, Server], Effort], Awaitable[Measured]]:
    """Return a function that measures one rival after another."""

    async def measure(servers: Mapping[str, Server], effort: Effort) -> Measured:
        return {name: await one(server, effort) for name, server in servers.items()}

    return measure


WORKLOADS: Final = {
    "flat": Workload("50 streams flat out", one_by_one(lambda s, e: flat_out(s, 50, e)), IN_DETAIL),
    "100x100": Workload(
        "100 streams of 100 events/s", one_by_one(lambda s, e: paced(s, 100, 100, e)), IN_DETAIL
    ),
    "500x50": Workload(
        "500 streams of 50 events/s", one_by_one(lambda s, e: paced(s, 500, 50, e)), IN_DETAIL
    ),
    "1000x20": Workload(
        "1,000 streams of 20 events/s", one_by_one(lambda s, e: paced(s, 1000, 20, e))
    ),
    "alone": Workload("one stream of 80 events/s", one_by_one(lambda s, e: paced(s, 1, 80, e))),
    "first": Workload(
        "streams of 3 events, one after another", one_by_one(first_chunks), STREAMS[1:]
    ),
    "first-text": Workload(
        "streams whose first text comes 5 ms after a chunk without text",
        one_by_one(first_text),
        STREAMS[1:],
    ),
    "memory": Workload(
        "open idle streams", one_by_one(lambda s, e: memory(s.name, e)), STREAMS[1:]
    ),
    "requests": Workload(
        "requests, Starlette", answers, (BARE, "pass-through", "least", MIDDLEWARE)
    ),
    "requests-fastapi": Workload(
        "requests, FastAPI", answers, ("fastapi", "fastapi-middleware"), "fastapi"
    ),
}
