"""`Loop` on asyncio and uvloop."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable, Coroutine
from contextlib import nullcontext, suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Final

import anyio
import anyio.lowlevel

from ._latency import LoopLatency
from ._timers import TimerQueues

_current_task: Callable[[asyncio.AbstractEventLoop], asyncio.Task[Any] | None]
if sys.version_info >= (3, 12):
    _current_task = asyncio.current_task
else:
    # `asyncio.current_task` is a Python function until 3.12. A call would add 860 instructions to
    # the 18,200 of a request. CPython 3.11 gets only security fixes, so this name stays.
    _current_task = vars(asyncio.tasks)["_current_tasks"].get

    from ._stepped import SteppedWork, run_first_step


class AsyncioLoop:
    """See `Loop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.needs_cancel_scope = (
            False  # read once a request: CPython 3.11 is slow on class attributes
        )
        self.can_run_eagerly = True
        self.current_task = partial(_current_task, loop)
        self.time = loop.time
        self.call_at = loop.call_at
        self.checkpoint = partial(asyncio.sleep, 0)
        self.latency = LoopLatency(loop.call_soon)
        # `call_at` copies the current context unless it is given one. The timer of a queue serves
        # many requests, and would keep the context of the first one alive.
        self.timer_queues = TimerQueues(partial(loop.call_at, context=Context()), loop.time)

    def in_loop(self) -> bool:
        # Not the thread that made this object: an event loop may run in one thread first, for a
        # warm-up request, and in another later (Kludex/uvicorn#706).
        return asyncio._get_running_loop() is self.loop

    def run_in_loop(self, callback: Callable[[], object]) -> None:
        if self.in_loop():
            callback()
            return
        with suppress(RuntimeError):  # the event loop is closed
            self.loop.call_soon_threadsafe(callback)

    def spawn(
        self, function: Callable[[], Coroutine[Any, Any, None]], context: Context | None = None
    ) -> AsyncioTask:
        return AsyncioTask(self.loop, function(), copy_context() if context is None else context)

    def app_task(self, task: asyncio.Task[Any] | None) -> AsyncioAppTask:
        return AsyncioAppTask(task)

    def parker(self) -> AsyncioParker:
        return AsyncioParker(self.loop)

    def interruptible(self) -> AsyncioInterruptible:
        return AsyncioInterruptible(self.current_task())


class AsyncioTask:
    """See `Task`."""

    __slots__ = ("_context", "_loop", "_task")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, None],
        context: Context,
    ) -> None:
        self._loop = loop
        self._context = context
        # Not `loop.create_task`: the task factory of an app need not accept a context.
        self._task = asyncio.Task(coroutine, loop=loop, context=context)
        # If the event loop is closed during a request, asyncio complains of the server's task. A
        # complaint of this one would be a line more than without the middleware.
        self._task._log_destroy_pending = False  # type: ignore[attr-defined]

    if sys.version_info >= (3, 12):

        def run_eagerly(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
            task = asyncio.Task(work, loop=self._loop, context=self._context, eager_start=True)
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined] # as above
                return task
            try:
                task.result()
            finally:
                del task  # a traceback would keep the task, which keeps the exception
            return None

    else:

        def run_eagerly(self, work: Coroutine[Any, Any, None]) -> SteppedWork | None:
            return run_first_step(self._task, self._context, work)

    @property
    def cancel_requested(self) -> bool:
        return self._task.cancelling() > 0

    def cancel(self) -> None:
        self._task.cancel()

    @property
    def done(self) -> bool:
        return self._task.done()

    async def join(self, timeout: float) -> None:
        if not self._task.done():
            await asyncio.wait([self._task], timeout=timeout)


SCHEDULING_METHODS: Final = frozenset({"call_soon", "call_soon_threadsafe"})


class AsyncioAppTask:
    """See `AppTask`. Cancels with `asyncio.Task.cancel`, and tells cancellations apart by counting
    them: `Task.cancelling` counts all, this class counts those that are our own.

    An anyio `CancelScope` around every request would make this class unnecessary, and would double
    the cost of a request that does not stream (docs/performance.md).
    """

    __slots__ = (
        "__weakref__",  # see `Disconnect.set_token`
        "_before",
        "_counts",
        "_marked",
        "_outside_seen",
        "_owed",
        "_own",
        "_scheduled",
        "_task",
        "ended",
    )
    scope = nullcontext()
    cancelled_again = False

    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        self.ended = False
        self._task = task
        self._before = task.cancelling() if task is not None else 0
        self._own = 0  # cancellations requested by this package, or by a callback of the token
        self._owed = False  # True while one of these may still arrive, as a CancelledError
        self._outside_seen = 0  # the others, when one arrived last
        # For `counting_cancels`, which counts in two callbacks of the event loop:
        self._scheduled = 0  # how many counts are not complete
        self._counts = 0  # how many counts have begun, and are not complete
        self._marked = 0  # all cancellations, when the first of these began

    def _requested(self) -> tuple[int, int]:
        """Return how many cancellations are our own, and how many came from outside.

        While a count has begun, every cancellation is taken for our own: a thread may not have come
        to the end of its count.
        """
        if self._task is None:
            return 0, 0
        all_requested = self._task.cancelling()
        own = self._own + (all_requested - self._marked if self._counts else 0)
        return own, all_requested - self._before - own

    def cancel(self) -> None:
        if self._task is not None and not self.ended:
            self._task.cancel()
            self._count_own(1)

    def _count_own(self, requests: int) -> None:
        if requests > 0:
            self._own += requests
            self._owed = True

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
        if owner is loop and args and callback.__name__ in SCHEDULING_METHODS:
            self._scheduled += (in_loop := _is_running(loop))
            callback(self._counting_scheduled, in_loop, *args, **kwargs)
        elif isinstance(owner, asyncio.Task):
            self._counting_now(callback, *args, **kwargs)
        else:
            self._counting_until_scheduled(partial(callback, *args, **kwargs))

    def _counting_now(self, callback: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        task = self._task
        before = task.cancelling() if task is not None else 0
        try:
            callback(*args, **kwargs)
        finally:
            requested = task.cancelling() - before if task is not None else 0
            self._count_own(requested)
            self._marked += requested

    def _counting_scheduled(
        self, in_loop: bool, callback: Callable[..., object], *args: Any
    ) -> None:
        self._scheduled -= in_loop
        self._counting_now(callback, *args)

    def _counting_until_scheduled(self, call: Callable[[], object]) -> None:
        """Count what `call` requests, and what runs between two callbacks that are scheduled before
        and after `call`. Event loops call back in order, so that is what `call` has scheduled.

        A cancellation from outside that comes between the two would be counted, too.
        """
        assert self._task is not None  # `counting_cancels` checks that
        loop = self._task.get_loop()
        in_loop, began = _is_running(loop), _schedule(loop, self._begin_count)
        self._scheduled += began and in_loop
        try:
            if in_loop:
                self._counting_now(call)
            else:
                call()
        finally:
            if began:
                _schedule(loop, partial(self._end_count, in_loop=in_loop))

    def _begin_count(self) -> None:
        if not self._counts and self._task is not None:
            self._marked = self._task.cancelling()
        self._counts += 1

    def _end_count(self, *, in_loop: bool) -> None:
        self._scheduled -= in_loop
        self._counts -= 1
        if not self._counts and self._task is not None:
            self._count_own(self._task.cancelling() - self._marked)

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
        own, outside = self._requested()
        self._outside_seen = outside
        if not cancelled:
            return outside > 0
        self._owed = False
        return outside > 0 or not own

    def cancellation_arrived(self) -> bool:
        outside = self._requested()[1]
        from_outside = outside > self._outside_seen or not (self._owed or self._counts)
        self._outside_seen, self._owed = outside, False
        return from_outside

    @property
    def settled(self) -> bool:
        return not self._scheduled and not self._owed

    async def settle(self) -> None:
        while not self.settled:
            await asyncio.sleep(0)
            if not self._scheduled:
                self._owed = False  # it arrived while the app ran, and the app has swallowed it

    def uncancel(self) -> None:
        task = self._task
        if task is not None:
            for _ in range(min(self._requested()[0], task.cancelling() - self._before)):
                task.uncancel()
            # The task may refer to this request by its context. The circle would hold the app's
            # generator, if the server of this request is the app itself (httpx.ASGITransport).
            self._task = None


def _schedule(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> bool:
    """Call back soon, and return True, if the event loop is not closed."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        return False
    return True


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


class AsyncioParker:
    """See `Parker`. A bare future: an `anyio.Event` for each batch costs several times as much."""

    __slots__ = ("_future", "_loop", "parked")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.parked = False  # read once a batch, and faster than asking the future
        self._loop = loop
        self._future: asyncio.Future[None] = loop.create_future()

    async def park(self) -> None:
        self._future = self._loop.create_future()
        self.parked = True
        try:
            await self._future
        finally:
            self.parked = False

    def unpark(self) -> None:
        if self.parked:
            self.parked = False
            if not self._future.done():  # cancelled, but the task has not run yet
                self._future.set_result(None)


class AsyncioWakeup:
    """See `Wakeup`. A bare future: a signal handler that sets an `asyncio.Event` may interrupt
    `Event.wait` just before it waits, and wake nobody."""

    __slots__ = ("_future", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] = loop.create_future()

    async def wait(self) -> None:
        if self._future.done():
            await anyio.lowlevel.checkpoint()
        else:
            await self._future

    def wake(self) -> None:
        if asyncio._get_running_loop() is self._loop:
            self._set()  # the task runs in the next iteration: a server may leave it no other
        # Also from here, because this may be a signal handler, and the loop may be asleep.
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


class AsyncioInterruptible:
    """See `Interruptible`. Cancels the task and undoes the cancellation, as `asyncio.timeout`
    does."""

    __slots__ = ("_before", "_requested", "_task", "interrupted")

    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        self.interrupted = False
        self._requested = False
        self._task = task
        self._before = task.cancelling() if task is not None else 0

    def interrupt(self) -> None:
        if self._task is not None and not self._requested:
            self._requested = True
            self._task.cancel()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> bool:
        if self._requested and self._task is not None:
            others = self._task.uncancel() > self._before
            cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
            self.interrupted = cancelled and not others
        return self.interrupted
