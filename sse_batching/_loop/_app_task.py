"""`AppTask` on asyncio: cancellations of our own, told apart from those of others."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, Final

import anyio

EACH_SIDE: Final = 3
"""Callbacks before a call, and after the call: see `_QueueCount`."""

SCHEDULING_METHODS: Final = frozenset({"call_soon", "call_soon_threadsafe"})

TIMER_METHODS: Final = frozenset({"call_later", "call_at"})

LOOKS_FOR_UNDONE: Final = 16
"""Loop iterations after a cancellation of our own in which to look whether the app has undone it. A
task group of anyio's or asyncio's takes three, if its tasks need no time to clean up."""


def is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Return True in the thread in which this event loop runs.

    Not in the thread that made the loop: it may run in one thread first, for a warm-up request, and
    in another later (Kludex/uvicorn#706).
    """
    return asyncio._get_running_loop() is loop


class AsyncioAppTask:
    """See `AppTask`. Cancels with `asyncio.Task.cancel`, and tells cancellations apart by counting
    them: `Task.cancelling` counts all, this class counts those that are our own.

    An anyio `CancelScope` around every request would make this class unnecessary, and would double
    the cost of a request that does not stream (docs/performance.md).
    """

    __slots__ = (
        "__weakref__",  # see `Disconnect.set_token`
        "_any_own",
        "_before",
        "_look",
        "_looks",
        "_open_counts",
        "_outside_seen",
        "_owed",
        "_own",
        "_repeated",
        "_scheduled",
        "_task",
        "ended",
    )
    scope = nullcontext()

    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        self.ended = False
        self._task = task
        self._before = task.cancelling() if task is not None else 0
        # Cancellations requested by this package or by a callback of the token, and not yet undone.
        self._own = 0
        self._any_own = False  # True once there was one
        self._looks = 0  # loop iterations in which to look whether the app has undone one
        self._look: asyncio.Handle | None = None
        self._owed = False  # True while one of these may still arrive, as a CancelledError
        self._outside_seen = 0  # the others, when one arrived last
        self._repeated = False  # True while one of the others may arrive again
        self._scheduled = 0  # callbacks of the event loop that may count cancellations as our own
        self._open_counts: list[_QueueCount] | None = None  # see `_requested`

    @property
    def cancelling(self) -> int:
        """All requested cancellations of the task, as `asyncio.Task.cancelling` counts them."""
        return self._task.cancelling() if self._task is not None else 0

    def _requested(self) -> tuple[int, int]:
        """Return how many cancellations are our own, and how many came from outside.

        While a count is open, what it has found is our own: the thread that has begun the count may
        not have come to its end.
        """
        own = self._own
        if self._open_counts:
            own += sum(count.found for count in self._open_counts)
        return own, self.cancelling - self._before - own

    @property
    def _counted_soon(self) -> bool:
        """True if an open count has found a cancellation of our own."""
        return any(count.found for count in self._open_counts or ())

    def cancel(self) -> None:
        if self._task is not None and not self.ended:
            self._task.cancel()
            self._count_own(1)

    def _count_own(self, requests: int) -> None:
        if requests > 0:
            self._own += requests
            self._owed = self._any_own = True
            if self._task is not None and is_running_here(loop := self._task.get_loop()):
                self._looks = LOOKS_FOR_UNDONE
                if self._look is None and not self.ended:
                    self._look = loop.call_soon(self._look_for_undone)

    def _look_for_undone(self) -> None:
        """Forget a cancellation of our own that the app has undone, with `asyncio.timeout`, a
        cancel scope or `Task.uncancel`. The next cancellation, of the server's, would be taken for
        ours."""
        self._look = None
        self._looks -= 1
        self._own = min(self._own, self.cancelling - self._before)
        if self._looks and self._task is not None:
            self._look = self._task.get_loop().call_soon(self._look_for_undone)

    # Callbacks of the token.

    def counting_cancels(
        self, callback: Callable[..., object], /, *args: Any, **kwargs: Any
    ) -> None:
        task = self._task
        if task is None:
            callback(*args, **kwargs)
            return
        while isinstance(callback, partial):
            args, kwargs = (*callback.args, *args), {**callback.keywords, **kwargs}
            callback = callback.func
        loop, owner = task.get_loop(), getattr(callback, "__self__", None)
        if isinstance(owner, anyio.CancelScope) or getattr(owner, "task", None) is task:
            # A scope undoes its cancellations itself. A task that is woken does not cancel itself.
            callback(*args, **kwargs)
        elif owner is loop and args and callback.__name__ in SCHEDULING_METHODS:
            in_loop = is_running_here(loop)
            self._scheduled += in_loop
            callback(self._counting_scheduled, in_loop, *args, **kwargs)
        elif owner is loop and len(args) > 1 and callback.__name__ in TIMER_METHODS:
            # The end of the request does not wait for the timer, so the call is not `_scheduled`.
            callback(args[0], self._counting_scheduled, False, *args[1:], **kwargs)
        elif isinstance(owner, asyncio.Task):
            self._counting_now(callback, *args, **kwargs)
        else:
            self._counting_now_and_scheduled(loop, partial(callback, *args, **kwargs))

    def _counting_now(self, callback: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        before = self.cancelling
        try:
            callback(*args, **kwargs)
        finally:
            self._count_own(self.cancelling - before)

    def _counting_scheduled(
        self, in_loop: bool, callback: Callable[..., object], *args: Any
    ) -> None:
        self._scheduled -= in_loop
        self._counting_now(callback, *args)

    def _counting_now_and_scheduled(
        self, loop: asyncio.AbstractEventLoop, call: Callable[[], object]
    ) -> None:
        """Count what a function of the app's requests, and what the function schedules."""
        in_loop = is_running_here(loop)
        count = _QueueCount(self, loop, in_loop=in_loop)
        began = count.schedule_begin()
        if began:
            self._scheduled += in_loop
            if self._open_counts is None:
                self._open_counts = []
            self._open_counts.append(count)
        try:
            if in_loop:
                self._counting_now(call)
            else:
                call()
        finally:
            if began:
                count.schedule_end()

    def count_ended(self, count: _QueueCount) -> None:
        """Add what a count has found. Called by the last callback of the count."""
        self._scheduled -= count.in_loop
        if self._open_counts is not None:
            self._open_counts.remove(count)
        self._count_own(count.found)

    # The end of the request.

    def if_cancelled_outside(self, callback: Callable[[], object]) -> None:
        task = self._task
        if task is None or asyncio.current_task() is not task:
            return
        # A deadline of minus infinity means that an anyio cancel scope of the app's is cancelled.
        # The app may use `asyncio.timeout` as well, which has undone its cancellation by the next
        # loop iteration, where the cancellations are counted.
        if anyio.current_effective_deadline() == -math.inf:
            return
        task.get_loop().call_soon(lambda: callback() if self._requested()[1] > 0 else None)

    def app_ended(self, *, cancelled: bool) -> bool:
        self.ended = True
        if self._look is not None:
            self._look.cancel()
            self._look = None
        own, outside = self._requested()
        self._outside_seen = outside
        if not cancelled:
            # CPython 3.13's TaskGroup cancels its task again if it raises a group of exceptions.
            self._repeated = outside > 0
            return outside > 0
        self._owed = False
        return outside > 0 or not (own or self._any_own)

    def cancellation_arrived(self) -> bool:
        outside = self._requested()[1]
        from_outside = outside > self._outside_seen or not (self._owed or self._counted_soon)
        self._outside_seen, self._owed, self._repeated = outside, False, False
        return from_outside

    @property
    def settled(self) -> bool:
        return not (self._scheduled or self._owed or self._repeated)

    async def settle(self) -> None:
        while not self.settled:
            await asyncio.sleep(0)
            if not self._scheduled:  # what has not arrived now was swallowed by the app
                self._owed = self._repeated = False

    def uncancel(self) -> None:
        task = self._task
        if task is not None:
            for _ in range(min(self._requested()[0], task.cancelling() - self._before)):
                task.uncancel()
            # The task may refer to this request by its context. The circle would hold the app's
            # generator, if the server of this request is the app itself (httpx.ASGITransport).
            self._task = None


class _QueueCount:
    """Counts the cancellations that a call has scheduled in the event loop.

    Event loops call back in order. So what runs between a callback that is scheduled before the
    call and one that is scheduled after the call was scheduled by the call. (Or by another thread
    during the call. That thread would have to cancel the same request.) There are
    `EACH_SIDE` callbacks on each side. If they do not come in order, as in a test that shuffles its
    event loop, nothing is counted.
    """

    __slots__ = ("_app_task", "_began_at", "_ended_at", "_in_order", "_loop", "_passed", "in_loop")

    def __init__(
        self, app_task: AsyncioAppTask, loop: asyncio.AbstractEventLoop, *, in_loop: bool
    ) -> None:
        self.in_loop = in_loop
        """True if the call runs in the thread of the event loop."""
        self._app_task = app_task
        self._loop = loop
        self._passed = 0  # callbacks that have come
        self._in_order = True
        self._began_at: int | None = None  # all cancellations, at the beginning and at the end
        self._ended_at: int | None = None

    @property
    def found(self) -> int:
        """How many cancellations the call has scheduled, so far."""
        if self._began_at is None or not self._in_order:
            return 0
        ended_at = self._app_task.cancelling if self._ended_at is None else self._ended_at
        return ended_at - self._began_at

    def schedule_begin(self) -> bool:
        """Schedule the callbacks before the call. Return False if the event loop is closed."""
        return all(self._schedule(number) for number in range(EACH_SIDE))

    def schedule_end(self) -> None:
        """Schedule the callbacks after the call."""
        for number in range(EACH_SIDE, 2 * EACH_SIDE):
            self._schedule(number)

    def _schedule(self, number: int) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._pass, number)
        except RuntimeError:  # the event loop is closed
            return False
        return True

    def _pass(self, number: int) -> None:
        self._in_order = self._in_order and number == self._passed
        self._passed += 1
        if self._passed == EACH_SIDE:
            self._began_at = self._app_task.cancelling
        elif self._passed == EACH_SIDE + 1:
            self._ended_at = self._app_task.cancelling
        elif self._passed == 2 * EACH_SIDE:
            self._app_task.count_ended(self)
