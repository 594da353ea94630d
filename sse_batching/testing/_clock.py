"""A clock that stands still until the test turns it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from selectors import SelectorKey
from typing import Any, Final, NamedTuple

IDLE_LIMIT: Final = 10.0
"""Real seconds in which nothing happens, after which nothing is going to happen any more."""


async def advance(seconds: float) -> None:
    """Turn the clock on: all that is due until then happens, each thing at its time.

    Returns when nothing more is to be done at that moment. Threads have no part in it: while one
    works, its event loop has nothing to do.

    Raises `RuntimeError` where the clock is a real one: it takes a `ManualClockLoop`, or trio with
    a `trio.testing.MockClock`. `ValueError` for a time that lies behind.
    """
    if not seconds >= 0:
        raise ValueError(f"seconds must not be negative; got {seconds!r}")
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        await _advance_trio(seconds)
        return
    if not isinstance(loop, ManualClockLoop):
        raise RuntimeError(  # noqa: TRY004
            f"only a ManualClockLoop can be advanced; this is {loop!r}"
        )
    await loop.advance(seconds)


class ManualClockLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose clock stands still until `advance` turns it.

        with asyncio.Runner(loop_factory=ManualClockLoop) as runner:
            runner.run(test())

    So an hour of keep-alives takes milliseconds, and each run sees the same times. With pytest and
    anyio: `anyio_backend` is `("asyncio", {"loop_factory": ManualClockLoop})`.

    A loop that has nothing to do for 10 real seconds while timers wait raises `RuntimeError`: who
    was to turn the clock is waiting for it.
    """

    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)

    def time(self) -> float:
        """The time on the clock, in seconds."""
        return self._clock.now

    async def advance(self, seconds: float) -> None:
        """Turn the clock on. One at a time."""
        if self._clock.turn is not None:
            raise RuntimeError("the clock is being turned already")
        turn = self._clock.turn = _Turn(self._clock.now + seconds, self.create_future())
        try:
            await turn.over
        finally:
            self._clock.turn = None


class _Turn(NamedTuple):
    until: float
    over: asyncio.Future[None]


class _Clock(selectors.BaseSelector):
    """Where the loop waits for its next timer: here it is told that the time has come."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.turn: _Turn | None = None
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.turn is None or self.turn.over.done():
            return self._wait(timeout)
        if timeout is not None and self.now + timeout <= self.turn.until:
            self.now += timeout
        else:
            self.now = self.turn.until
            self.turn.over.set_result(None)
        return []

    def _wait(self, timeout: float | None) -> list[tuple[SelectorKey, int]]:
        ready = self._real.select(None if timeout is None else IDLE_LIMIT)
        if not ready:
            raise RuntimeError(
                f"nothing has happened for {IDLE_LIMIT} s, and the next timer is {timeout} s away "
                "on a clock that nobody turns: `await advance(...)` somewhere"
            )
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


async def _advance_trio(seconds: float) -> None:
    import trio.testing  # only where it runs: who has asyncio alone need not have it

    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, trio.testing.MockClock):
        raise RuntimeError(  # noqa: TRY004
            f"only a trio.testing.MockClock can be advanced; this is {clock!r}"
        )
    target = trio.current_time() + seconds
    await trio.testing.wait_all_tasks_blocked()
    while True:
        due = trio.lowlevel.current_statistics().seconds_to_next_deadline
        left = target - trio.current_time()
        clock.jump(max(0.0, min(due, left)))
        await trio.testing.wait_all_tasks_blocked()
        if due > left:
            return
