"""A clock that a test moves, in place of the real one."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Mapping
from selectors import SelectorKey
from typing import Any, Final, NamedTuple

IDLE_LIMIT: Final = 10.0
"""Real seconds for which a loop waits, while it has timers and nothing moves its clock."""


async def advance(seconds: float) -> None:
    """Move the clock forward by this many seconds, and run everything that is due until then.

    Each timer runs when the clock shows its time, in the order of these times. That includes
    timers which are set meanwhile. The call returns when the clock has reached the end and no task
    has anything left to do. The clock is that of the running loop: a `ManualClockLoop`, or the
    `trio.testing.MockClock` of a trio run.

    *Not guaranteed*: that a thread gets its work done meanwhile. While the thread works, the loop
    has nothing to do, and the clock moves on.

    A call that is cancelled leaves the clock where it is. The next call goes on from there.

    Raises `ValueError` if `seconds` is negative, and `RuntimeError` if the clock is a real one. On
    a `ManualClockLoop` it raises `RuntimeError`, too, if another call has not returned yet.
    """
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
    """An asyncio event loop whose clock a test moves.

        with asyncio.Runner(loop_factory=ManualClockLoop) as runner:
            runner.run(test())

    An hour of keep-alives takes milliseconds, and each run sees the same times. With pytest and
    anyio, `anyio_backend` is `("asyncio", {"loop_factory": ManualClockLoop})`.

    The clock stands still until `advance` moves it. If the loop then waits for a timer for 10 real
    seconds, it raises `RuntimeError`: the task that should call `advance` is waiting for the clock
    itself. With an `autojump_threshold` the clock also moves by itself, as trio's `MockClock` does:
    when nothing has happened for that time, the clock jumps to the next timer.

    Sockets and threads work as in any event loop, in real time. Like all loops of asyncio, it
    belongs to one thread; only `call_soon_threadsafe` may be called from others.

    Args:
        autojump_threshold: real seconds in which nothing happens, before the clock jumps to the
            next timer. 0: it jumps as soon as no task has anything to do. With more, a thread has
            this time to finish its work first. Infinity, the default: it never jumps.
    """

    def __init__(self, *, autojump_threshold: float = math.inf) -> None:
        self._clock = _Clock(autojump_threshold)
        super().__init__(self._clock)

    def time(self) -> float:
        """Return the time on the clock, in seconds."""
        return self._clock.now

    def jump(self, seconds: float) -> None:
        """Move the clock forward without running anything, as if code blocked the loop so long.

        Timers that become due run late, when the caller next awaits. Raises `ValueError` if
        `seconds` is negative.
        """
        _check_not_negative(seconds)
        self._clock.now += seconds

    async def advance(self, seconds: float) -> None:
        """Move the clock as the function `advance` does, which also works on trio."""
        _check_not_negative(seconds)
        if self._clock.advance is not None:
            raise RuntimeError("another call of `advance` has not returned yet")
        advance = self._clock.advance = _Advance(self._clock.now + seconds, self.create_future())
        try:
            await advance.done
        finally:
            self._clock.advance = None


class _Advance(NamedTuple):
    """A call of `ManualClockLoop.advance` that has not returned yet."""

    until: float
    done: asyncio.Future[None]


class _Clock(selectors.BaseSelector):
    """The loop's selector. Where others sleep until the next timer, it moves the clock."""

    def __init__(self, autojump_threshold: float) -> None:
        self.now = 1000.0
        self.advance: _Advance | None = None
        self._autojump_threshold = autojump_threshold
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready  # something is to be done before the clock may move
        if self.advance is None or self.advance.done.done():
            return self._wait(timeout)
        if timeout is not None and self.now + timeout <= self.advance.until:
            self.now += timeout
        else:
            self.now = max(self.now, self.advance.until)  # `jump` may have gone beyond
            self.advance.done.set_result(None)
        return []

    def _wait(self, timeout: float | None) -> list[tuple[SelectorKey, int]]:
        """Wait for a thread or a socket in real time. If none comes, jump to the next timer."""
        if timeout is None:  # there is no timer
            return self._real.select(None)
        jumps = self._autojump_threshold < math.inf
        ready = self._real.select(self._autojump_threshold if jumps else IDLE_LIMIT)
        if ready:
            return ready
        if not jumps:
            raise RuntimeError(
                f"nothing has happened for {IDLE_LIMIT} s, and the next timer is {timeout} s away "
                "on a clock that nobody moves; call `advance` in a task that does not wait for it"
            )
        self.now += timeout
        return []

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
    import trio.testing  # here, because users of asyncio need not have trio installed

    _check_not_negative(seconds)
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


def _check_not_negative(seconds: float) -> None:
    if not seconds >= 0:
        raise ValueError(f"seconds must not be negative; got {seconds!r}")
