"""`Loop` on asyncio and uvloop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any

import anyio.lowlevel

from ._app_task import AsyncioAppTask, is_running_here
from ._latency import LoopLatency
from ._timers import TimerQueues

_current_task: Callable[[asyncio.AbstractEventLoop], asyncio.Task[Any] | None]
if sys.version_info >= (3, 12):
    _current_task = asyncio.current_task
else:
    # `asyncio.current_task` is a Python function until 3.12. A call would add 860 instructions to
    # the 19,200 of a request. CPython 3.11 gets only security fixes, so this name stays.
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
        return is_running_here(self.loop)

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

    __slots__ = ("_future", "_loop", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.task = asyncio.current_task(loop)
        """The task that waits."""
        self._loop = loop
        self._future: asyncio.Future[None] = loop.create_future()

    async def wait(self) -> None:
        if self._future.done():
            await anyio.lowlevel.checkpoint()
        else:
            await self._future

    def wake(self) -> None:
        if is_running_here(self._loop):
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
