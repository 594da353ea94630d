"""An asyncio event loop whose clock jumps to the next timer when nothing else is to be done.

Hours pass in milliseconds, and the same code gives the same times at every run. (Trio has such a
clock itself.)
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from selectors import SelectorKey
from typing import Any

import anyio
import trio.testing


class _JumpingSelector(selectors.BaseSelector):
    """Does not wait for timers: tells the loop that their time has come."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        if timeout is None:  # no timer is set: only a thread can wake this loop
            return self._real.select(None)
        ready = self._real.select(0)
        if not ready and timeout > 0:
            self.now += timeout
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[Any, SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def jump(self, seconds: float) -> None:
        self._jumping.now += seconds


def spend(seconds: float) -> None:
    """Let virtual time pass as work does that never awaits: nothing happens until then."""
    if trio.lowlevel.in_trio_task():
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        clock.jump(seconds)
    else:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        loop.jump(seconds)


async def advance(seconds: float) -> None:
    """Let virtual time pass: everything that is due until then happens, in order."""
    await anyio.sleep(seconds)
