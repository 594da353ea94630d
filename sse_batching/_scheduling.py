"""Time, timers and tasks of the running event loop. Nothing else in the package names one."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import anyio

MAX_TURN: Final = 0.005
"""Seconds after which an app that never awaits has to give way to other tasks. Two orders above
what a turn of a busy loop takes, one below what a person notices."""

_local = threading.local()


def scheduler() -> Scheduler:
    """The scheduler of the event loop that runs in this thread. One for each loop."""
    loop = asyncio.get_running_loop()
    known: Scheduler | None = getattr(_local, "scheduler", None)
    if known is None or known.loop is not loop:
        known = _local.scheduler = Scheduler(loop)
    return known


class Scheduler:
    """Time, timers and tasks on one asyncio or uvloop event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.time = loop.time
        self._thread = threading.get_ident()
        self._turn_began: float | None = None

    def call_at(self, when: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """Call back at that time. The handle has `cancel`."""
        return self.loop.call_at(when, callback)

    def run_in_loop(self, callback: Callable[[], object]) -> None:
        """Call in the loop's thread: now if this is that thread, else as soon as it gets there."""
        if threading.get_ident() == self._thread:
            callback()
            return
        # A loop that has ended has nothing left that the call could be about.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(callback)

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> Task:
        """Start a task that belongs to nobody: whoever spawns it has to `cancel` and `join` it."""
        return Task(self.loop.create_task(function()))

    def host(self) -> Host:
        """The task that is running."""
        return Host(asyncio.current_task())

    def overdue(self, now: float) -> bool:
        """Whether the loop has been in one and the same turn for more than `MAX_TURN`.

        Only turns in which somebody asks are measured.
        """
        if self._turn_began is None:
            self._turn_began = now
            self.loop.call_soon(self._next_turn)
            return False
        return now - self._turn_began > MAX_TURN

    def _next_turn(self) -> None:
        self._turn_began = None


class Task:
    """A task of ours, apart from the task that the server gave the request."""

    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def cancel(self) -> None:
        self._task.cancel()

    @property
    def done(self) -> bool:
        return self._task.done()

    async def join(self, timeout: float) -> None:
        """Wait for its end, at most so long. What it raised is not raised."""
        if not self._task.done():
            await asyncio.wait([self._task], timeout=timeout)


class Host:
    """The task in which the server runs the app, and the cancellations that it is under.

    Why not an anyio `CancelScope` around every request: docs/performance.md has the price.
    """

    __slots__ = ("_before", "_own", "_task")

    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        self._task = task
        self._before = task.cancelling() if task is not None else 0
        self._own = 0  # cancellations that this package, or a callback of the token, asked for

    def cancel(self) -> None:
        """Cancel the app, as `asyncio.Task.cancel` does."""
        if self._task is not None:
            self._task.cancel()
            self._own += 1

    def watching(self, call: Callable[[], object]) -> None:
        """Call, and count as our own the cancellations of this task that the call asks for.

        ``token.register(task.cancel)`` with the request's own task is one.
        """
        if self._task is None:
            call()
            return
        before = self._task.cancelling()
        call()
        self._own += self._task.cancelling() - before

    @property
    def cancelled_from_outside(self) -> bool:
        """Whether somebody else has cancelled the task, and it has not come to its end yet."""
        return self._task is not None and self._task.cancelling() > self._before + self._own

    def on_outside_cancel(self, then: Callable[[], object]) -> None:
        """In the handler of a cancellation: call `then` on the next turn, if it came from outside.

        A cancellation of an anyio scope, or of `asyncio.timeout`, is the app's own affair; the
        latter has been taken back by the next turn. A server that shuts down leaves no more time
        than that turn (uvicorn), so this cannot wait until the app has ended.
        """
        task = self._task
        if task is None or asyncio.current_task() is not task:
            return
        if anyio.current_effective_deadline() == -math.inf:
            return
        task.get_loop().call_soon(lambda: then() if self.cancelled_from_outside else None)

    async def absorb(self, *, running: bool) -> bool:
        """Take back the cancellations that were our own; True if there were no others.

        `running` says that no cancellation has come out of the app: one of ours may then be
        still on its way, and is waited for.
        """
        task, own, self._own = self._task, self._own, 0
        if task is None or not own:
            return False
        came: asyncio.CancelledError | None = None
        if running:
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as error:
                came = error
        for _ in range(own):
            task.uncancel()
        ours = task.cancelling() <= self._before
        if came is not None and not ours:
            raise came
        return ours


class Interruptible:
    """One wait of the running task, which others can cut short."""

    __slots__ = ("_before", "_interrupted", "_task")

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._before = self._task.cancelling() if self._task is not None else 0
        self._interrupted = False

    def interrupt(self) -> None:
        """Cut the wait short. Not from the task that waits."""
        if self._task is not None and not self._interrupted:
            self._interrupted = True
            self._task.cancel()

    def interrupted_only(self, error: BaseException) -> bool:
        """Whether this is what the interruption raised, and nobody else has cancelled the task."""
        if not self._interrupted or self._task is None:
            return False
        others = self._task.uncancel() > self._before
        return isinstance(error, asyncio.CancelledError) and not others


class Alarm:
    """A timer that is set often and rings seldom.

    When it rings it asks `ring(now)`, which does what is due and says when it wants to be asked
    again, or None. So nobody has to cancel it when a deadline has moved: that costs more than a
    ring in vain, and a stale ring does no harm.
    """

    __slots__ = ("_handle", "_ring", "_scheduler", "when")

    def __init__(self, scheduler: Scheduler, ring: Callable[[float], float | None]) -> None:
        self._scheduler = scheduler
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None
        self.when = math.inf
        """When it rings; infinity while it is not set."""

    def ring_at(self, when: float) -> None:
        """Ring at that time, or before."""
        if self._handle is not None:
            if self.when <= when:
                return
            self._handle.cancel()
        self.when = when
        self._handle = self._scheduler.call_at(when, self._go_off)

    def stop(self) -> None:
        """Ring no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
            self.when = math.inf

    def _go_off(self) -> None:
        # A loop's timer may go off a clock tick early: by its own reckoning it is that time.
        now = max(self._scheduler.time(), self.when)
        self._handle = None
        self.when = math.inf
        again = self._ring(now)
        if again is not None:
            self.ring_at(again)


class Parker:
    """Where one task waits until somebody has work for it.

    A bare future of the loop: an `anyio.Event` per batch costs several times as much.
    """

    __slots__ = ("_future", "_loop")

    def __init__(self, scheduler: Scheduler) -> None:
        self._loop = scheduler.loop
        self._future: asyncio.Future[None] | None = None

    @property
    def parked(self) -> bool:
        return self._future is not None and not self._future.done()

    async def park(self) -> None:
        """Wait for `unpark`. One task at a time."""
        self._future = self._loop.create_future()
        try:
            await self._future
        finally:
            self._future = None

    def unpark(self) -> None:
        """Wake the task, if it is parked. What came before a `park` does not end it."""
        future = self._future
        if future is not None and not future.done():
            future.set_result(None)
