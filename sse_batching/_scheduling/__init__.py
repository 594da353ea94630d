"""Time, timers and tasks of the running event loop. Nothing else in the package names one.

`scheduler()` gives the one of the running loop: asyncio's (uvloop's too) or trio's. Both offer the
same few things, and what they are for is said here.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ._asyncio import AsyncioScheduler
from ._deadlines import Deadlines as Deadlines, Timer as Timer
from ._rest import Rest as Rest
from ._turns import Turns


class Task(Protocol):
    """A task of ours, apart from the task that the server gave the request."""

    def start(self, work: Awaitable[None]) -> Rest | None:
        """Do a piece of its work for a task that waits, in its name, up to where it has to wait.

        None: that was all. Otherwise what is left, for the task to await. What the work raises is
        raised here. Not from a task: from a callback of the loop.
        """

    def cancel(self) -> None:
        """Cancel it, soon."""

    @property
    def done(self) -> bool:
        """Whether it has ended."""

    async def join(self, timeout: float) -> None:
        """Wait for its end, at most so long. What it raised is not raised."""


class Host(Protocol):
    """The task in which the server runs the app, and the cancellations that it is under."""

    @property
    def scope(self) -> AbstractContextManager[Any]:
        """What the app is run in, on a loop that is `scoped`."""

    def cancel(self) -> None:
        """Cancel the app."""

    def watching(self, call: Callable[[], object]) -> None:
        """Call, and count as our own the cancellations of this task that the call asks for.

        ``token.register(task.cancel)`` with the request's own task is one.
        """

    def on_outside_cancel(self, then: Callable[[], object]) -> None:
        """In the handler of a cancellation: call `then` in a moment, if it came from outside.

        A server that shuts down may leave no more time than that (uvicorn: one turn of the loop),
        so this cannot wait until the app has ended.
        """

    async def absorb(self, *, running: bool) -> bool:
        """Take back the cancellations that were our own. Whether there were, and no others.

        `running` says that no cancellation has come out of the app: one of ours may then be
        still on its way, and is waited for.
        """


class Parker(Protocol):
    """Where one task waits until somebody has work for it."""

    @property
    def parked(self) -> bool:
        """Whether the task waits, and has not been woken."""

    def park(self) -> Awaitable[None]:
        """Wait for `unpark`. One task at a time."""

    def unpark(self) -> None:
        """Wake the task, if it is parked. What came before a `park` does not end it."""


class Interruptible(Protocol):
    """One wait of the running task, which others can cut short: the body of its `with` block."""

    @property
    def interrupted(self) -> bool:
        """Whether the wait was cut short, and by nothing else."""

    def __enter__(self) -> object: ...

    def __exit__(self, *error: Any) -> bool: ...  # noqa: PYI036

    def interrupt(self) -> None:
        """Cut the wait short. Not from the task that waits."""


class Scheduler(Protocol):
    """Time, timers and tasks of one event loop. To be used in its thread, but for `run_in_loop`."""

    @property
    def time(self) -> Callable[[], float]:
        """The clock of the loop, in seconds."""

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call back at that time."""

    def deadlines(self, delay: float) -> Deadlines:
        """Those that are all this delay after now: for a timer that nearly every batch needs."""

    def in_loop(self) -> bool:
        """Whether this is the loop's thread. May be asked in any."""

    def run_in_loop(self, callback: Callable[[], object]) -> None:
        """Call in the loop's thread: now if this is that thread, else as soon as it gets there."""

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> Task:
        """Start a task that belongs to nobody: whoever spawns it has to `cancel` and `join` it."""

    @property
    def scoped(self) -> bool:
        """Whether a host needs its `scope` to be able to cancel."""

    def current(self) -> Any:
        """The task that is running, for `host`."""

    def host(self, task: Any = None) -> Host:
        """The host that this task is; None: the running one."""

    def parker(self) -> Parker:
        """A place to wait."""

    def interruptible(self) -> Interruptible:
        """For one wait of the task that is running."""

    def give_way(self) -> Awaitable[None]:
        """Let all other tasks have a turn."""

    @property
    def turns(self) -> Turns:
        """For those who might hold the loop up."""


_last: AsyncioScheduler | None = None  # nearly always the right one, and found without a search
_local = threading.local()


def scheduler() -> Scheduler:
    """The scheduler of the event loop that runs in this thread. One for each loop."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        from ._trio import trio_scheduler  # asyncio needs no trio to be installed

        return trio_scheduler()
    global _last
    found = _last
    if found is None or found.loop is not loop:
        found = getattr(_local, "scheduler", None)
        if found is None or found.loop is not loop:
            found = _local.scheduler = AsyncioScheduler(loop)
        _last = found
    return found


class Alarm:
    """A timer that is set often and rings seldom.

    When it rings it asks `ring(now)`, which does what is due and says when it wants to be asked
    again, or None. So nobody has to cancel it when a deadline has moved: that costs more than a
    ring in vain, and a stale ring does no harm.
    """

    __slots__ = ("_ring", "_scheduler", "_timer", "when")

    def __init__(self, scheduler: Scheduler, ring: Callable[[float], float | None]) -> None:
        self._scheduler = scheduler
        self._ring = ring
        self._timer: Timer | None = None
        self.when = math.inf
        """When it rings; infinity while it is not set."""

    def ring_at(self, when: float) -> None:
        """Ring at that time, or before."""
        if self._timer is not None:
            if self.when <= when:
                return
            self._timer.cancel()
        self.when = when
        self._timer = self._scheduler.call_at(when, self._go_off)

    def stop(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.when = math.inf

    def _go_off(self) -> None:
        # A loop's timer may go off a clock tick early: by its own reckoning it is that time.
        now = max(self._scheduler.time(), self.when)
        self._timer = None
        self.when = math.inf
        again = self._ring(now)
        if again is not None:
            self.ring_at(again)
