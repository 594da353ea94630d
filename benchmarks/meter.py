"""What a server measures of itself: events produced, CPU, memory, how late its event loop is."""

from __future__ import annotations

import asyncio
import time
from typing import Final, TypedDict

import psutil
from starlette.requests import Request
from starlette.responses import JSONResponse

TICK: Final = 0.01
"""Seconds from one look at the event loop to the next."""


class Stats(TypedDict):
    """The answer of `/stats`."""

    cpu_ns: int
    """CPU time of the process, all threads, user and system."""
    wall_ns: int
    produced: int
    rss: int
    """Bytes of memory in use."""
    write_calls: int
    """System calls that write; 0 where the system does not count them."""
    stall_p99: float
    """How late the loop was to a tick, in seconds, since the watch began."""
    stall_max: float


class Meter:
    """Counts and times of this process. To look at the loop costs CPU: only if asked for."""

    def __init__(self) -> None:
        self.produced = 0
        self._process = psutil.Process()
        self._late: list[float] = []
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._gate: asyncio.Future[float] | None = None

    async def gate(self) -> float:
        """Wait for `go`. The time at which it came."""
        if self._gate is None:
            self._gate = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._gate)

    def go(self) -> None:
        """Let all begin that wait."""
        if self._gate is not None:
            self._gate.set_result(time.monotonic())
            self._gate = None

    def stamp(self) -> int:
        """The time at which an event is produced."""
        self.produced += 1
        return time.monotonic_ns()

    def watch(self, on: bool) -> None:
        """Begin to look at the loop, anew, or end it."""
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
    """The figures so far; then `?watch=1` begins to look at the loop, and `?watch=0` ends it."""
    answer = METER.stats()
    if "watch" in request.query_params:
        METER.watch(request.query_params["watch"] == "1")
    return JSONResponse(answer)


async def go(request: Request) -> JSONResponse:
    """All streams that wait begin."""
    METER.go()
    return JSONResponse({})
