"""Measure events, CPU time, memory and latency of the event loop, in the server's process."""

from __future__ import annotations

import asyncio
import time
from typing import Final, TypedDict

import psutil
from starlette.requests import Request
from starlette.responses import JSONResponse

TICK: Final = 0.01
"""Seconds between two ticks of the timer that measures how late the event loop is."""


class Stats(TypedDict):
    """Answer of `/stats`."""

    cpu_ns: int
    """CPU time of all threads of the process, user and system."""
    wall_ns: int
    produced: int
    rss: int
    """Bytes of resident memory."""
    write_calls: int
    """System calls that write, or 0 where the system does not count them."""
    stall_p99: float
    """Seconds by which the event loop was late for a tick, since `watch=1`."""
    stall_max: float


class Meter:
    """Counts and times of this process.

    The latency of the event loop is measured only between `watch=1` and `watch=0`, because that
    costs CPU time.
    """

    def __init__(self) -> None:
        self.produced = 0
        self._process = psutil.Process()
        self._late: list[float] = []
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._gate: asyncio.Future[float] | None = None

    async def gate(self) -> float:
        """Wait for `go`. Return the time at which it was called."""
        if self._gate is None:
            self._gate = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._gate)

    def go(self) -> None:
        """Start all streams that wait at the gate."""
        if self._gate is not None:
            self._gate.set_result(time.monotonic())
            self._gate = None

    def stamp(self) -> int:
        """Count an event. Return the time at which it is produced."""
        self.produced += 1
        return time.monotonic_ns()

    def watch(self, on: bool) -> None:
        """Begin to measure the latency of the event loop, or end it."""
        self._late = []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if on:
            self._next_tick(time.monotonic())

    def _next_tick(self, now: float) -> None:
        self._due = now + TICK
        self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        self._late.append(max(0.0, now - self._due))
        self._next_tick(now)

    def stats(self) -> Stats:
        late = sorted(self._late) or [0.0]
        counters = self._process.io_counters() if hasattr(self._process, "io_counters") else None
        return {
            "cpu_ns": time.process_time_ns(),
            "wall_ns": time.monotonic_ns(),
            "produced": self.produced,
            "rss": self._process.memory_info().rss,
            "write_calls": counters.write_count if counters is not None else 0,
            "stall_p99": late[int(0.99 * (len(late) - 1))],
            "stall_max": late[-1],
        }


METER: Final = Meter()


async def stats(request: Request) -> JSONResponse:
    """Answer the figures. Then `watch=1` begins to measure the latency, and `watch=0` ends it."""
    answer = METER.stats()
    if "watch" in request.query_params:
        METER.watch(request.query_params["watch"] == "1")
    return JSONResponse(answer)


async def go(request: Request) -> JSONResponse:
    """Start all streams that wait at the gate."""
    METER.go()
    return JSONResponse({})
