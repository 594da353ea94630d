"""Scheduling on asyncio and uvloop."""

from __future__ import annotations

import asyncio
import math
import threading
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import nullcontext, suppress
from contextvars import Context
from functools import partial
from types import CoroutineType
from typing import Any

import anyio

from ._deadlines import Queues
from ._rest import Begun, coroutine_of
from ._turns import Turns


class AsyncioScheduler:
    """See `Scheduler`."""

    scoped = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.time = loop.time
        self.call_at = loop.call_at
        # With the loop given: to look for the running one takes a system call, until Python 3.12.
        self.current = partial(asyncio.current_task, loop)
        self._thread = threading.get_ident()
        self.turns = Turns(loop.call_soon)
        # In a context of its own, or the loop copies that of the one who has added the first.
        self.deadlines = Queues(partial(loop.call_at, context=Context()), loop.time)
        self.give_way = partial(asyncio.sleep, 0)

    def in_loop(self) -> bool:
        return threading.get_ident() == self._thread

    def run_in_loop(self, callback: Callable[[], object]) -> None:
        if self.in_loop():
            callback()
            return
        # A loop that has ended has nothing left that the call could be about.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(callback)

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> AsyncioTask:
        return AsyncioTask(self.loop, self.loop.create_task(function()))

    def host(self, task: asyncio.Task[Any] | None = None) -> AsyncioHost:
        return AsyncioHost(asyncio.current_task() if task is None else task)

    def parker(self) -> AsyncioParker:
        return AsyncioParker(self.loop)

    def interruptible(self) -> AsyncioInterruptible:
        return AsyncioInterruptible(asyncio.current_task())


class AsyncioTask:
    """See `Task`."""

    __slots__ = ("_loop", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
        self._loop = loop
        self._task = task

    def start(self, work: Awaitable[None]) -> Begun | None:
        # What an eager task factory does with a new task: the work finds itself in this one.
        # Nearly always it is a coroutine already, and each batch comes by: asked in line.
        coroutine = work if type(work) is CoroutineType else coroutine_of(work)
        _enter_task(self._loop, self._task)
        try:
            return Begun(coroutine, coroutine.send(None))
        except StopIteration:
            return None
        finally:
            _leave_task(self._loop, self._task)

    def cancel(self) -> None:
        self._task.cancel()

    @property
    def done(self) -> bool:
        return self._task.done()

    async def join(self, timeout: float) -> None:
        if not self._task.done():
            await asyncio.wait([self._task], timeout=timeout)


class AsyncioHost:
    """See `Host`. Cancels as `asyncio.Task.cancel` does, and keeps count of who has cancelled.

    Why not an anyio `CancelScope` around every request: docs/performance.md has the price.
    """

    __slots__ = ("_before", "_own", "_task")
    scope = nullcontext()

    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        self._task = task
        self._before = task.cancelling() if task is not None else 0
        self._own = 0  # cancellations that this package, or a callback of the token, asked for

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._own += 1

    def watching(self, call: Callable[[], object]) -> None:
        if self._task is None:
            call()
            return
        before = self._task.cancelling()
        try:
            call()
        finally:
            self._own += self._task.cancelling() - before

    def on_outside_cancel(self, then: Callable[[], object]) -> None:
        task = self._task
        if task is None or asyncio.current_task() is not task:
            return
        # A scope of anyio's, or `asyncio.timeout`, is the app's own affair; the latter has taken
        # its cancellation back by the next turn.
        if anyio.current_effective_deadline() == -math.inf:
            return
        limit = self._before + self._own
        task.get_loop().call_soon(lambda: then() if task.cancelling() > limit else None)

    async def absorb(self, *, running: bool) -> bool:
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


class AsyncioParker:
    """See `Parker`. A bare future: an `anyio.Event` for every batch costs several times as much."""

    __slots__ = ("_future", "_loop", "parked")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.parked = False  # each batch asks, and the future would be slow to answer
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


class AsyncioInterruptible:
    """See `Interruptible`. A cancellation that is taken back, as in `asyncio.timeout`."""

    __slots__ = ("_asked", "_before", "_task", "interrupted")

    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        self.interrupted = False
        self._asked = False
        self._task = task
        self._before = task.cancelling() if task is not None else 0

    def interrupt(self) -> None:
        if self._task is not None and not self._asked:
            self._asked = True
            self._task.cancel()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> bool:
        if self._asked and self._task is not None:
            others = self._task.uncancel() > self._before
            cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
            self.interrupted = cancelled and not others
        return self.interrupted
