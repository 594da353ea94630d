"""Scheduling on trio. Imported only where trio runs."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any

import trio

from ._deadlines import Queues
from ._rest import Rest, coroutine_of
from ._turns import Turns

_schedulers: trio.lowlevel.RunVar[TrioScheduler] = trio.lowlevel.RunVar("sse_batching.scheduler")


def trio_scheduler() -> TrioScheduler:
    """The scheduler of the trio run of this thread."""
    try:
        return _schedulers.get()
    except LookupError:
        known = TrioScheduler()
        _schedulers.set(known)
        return known


class TrioScheduler:
    """See `Scheduler`."""

    scoped = True

    def __init__(self) -> None:
        self.time = trio.current_time
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.get_ident()
        self.turns = Turns(self._token.run_sync_soon)
        self.deadlines = Queues(self._call_at_without_context, self.time)
        self.give_way = trio.lowlevel.checkpoint

    def call_at(self, when: float, callback: Callable[[], object]) -> TrioTask:
        async def wait() -> None:
            await trio.sleep_until(when)
            callback()

        return TrioTask(wait)

    def _call_at_without_context(self, when: float, callback: Callable[[], object]) -> TrioTask:
        return Context().run(self.call_at, when, callback)

    def in_loop(self) -> bool:
        return threading.get_ident() == self._thread

    def run_in_loop(self, callback: Callable[[], object]) -> None:
        if self.in_loop():
            callback()
            return
        # A run that has ended has nothing left that the call could be about.
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(callback)

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> TrioTask:
        return TrioTask(function)

    def current(self) -> TrioHost:
        return TrioHost()

    def host(self, task: TrioHost | None = None) -> TrioHost:
        return TrioHost() if task is None else task

    def parker(self) -> TrioParker:
        return TrioParker()

    def interruptible(self) -> TrioInterruptible:
        return TrioInterruptible()


class TrioTask:
    """See `Task`. A system task: it has no parent that could be cancelled, or wait for it."""

    def __init__(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        trio.lowlevel.spawn_system_task(self._run, function, context=copy_context())

    async def _run(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            with self._scope:
                await function()
        finally:
            self._ended.set()

    def start(self, work: Awaitable[None]) -> Rest:
        # trio lets nobody work in the name of a task: all of it is left.
        return coroutine_of(work)

    def cancel(self) -> None:
        self._scope.cancel()

    @property
    def done(self) -> bool:
        return self._ended.is_set()

    async def join(self, timeout: float) -> None:
        with trio.move_on_after(timeout):
            await self._ended.wait()


class TrioHost:
    """See `Host`. The app runs in a cancel scope, which tells its own cancellation from others."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()

    def cancel(self) -> None:
        self.scope.cancel()

    def watching(self, call: Callable[[], object]) -> None:
        call()  # trio has no `task.cancel` that could be called

    def on_outside_cancel(self, then: Callable[[], object]) -> None:
        pass  # the servers on trio wait until the app has ended

    async def absorb(self, *, running: bool) -> bool:
        return self.scope.cancelled_caught


class TrioParker:
    """See `Parker`."""

    def __init__(self) -> None:
        self.parked = False
        self._event = trio.Event()

    async def park(self) -> None:
        self._event = trio.Event()
        self.parked = True
        try:
            await self._event.wait()
        finally:
            self.parked = False

    def unpark(self) -> None:
        self.parked = False
        self._event.set()


class TrioInterruptible:
    """See `Interruptible`."""

    def __init__(self) -> None:
        self._scope = trio.CancelScope()

    @property
    def interrupted(self) -> bool:
        return self._scope.cancelled_caught

    def interrupt(self) -> None:
        self._scope.cancel()

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(self, *error: Any) -> bool:  # noqa: PYI036
        return bool(self._scope.__exit__(*error))
