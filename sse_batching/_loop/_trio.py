"""`Loop` on trio. Imported only in a process that runs trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any, NoReturn

import trio

from ._latency import LoopLatency
from ._timers import TimerQueues

_loops: trio.lowlevel.RunVar[TrioLoop] = trio.lowlevel.RunVar("sse_batching.loop")


def current_trio_loop() -> TrioLoop:
    """Return the `Loop` of the trio run of this thread."""
    try:
        return _loops.get()
    except LookupError:
        loop = TrioLoop()
        _loops.set(loop)
        return loop


class TrioLoop:
    """See `Loop`."""

    needs_cancel_scope = True
    can_run_eagerly = False  # trio cannot run code in the name of another task

    def __init__(self) -> None:
        self.time = trio.current_time
        self.checkpoint = trio.lowlevel.checkpoint
        self._token = trio.lowlevel.current_trio_token()
        self.latency = LoopLatency(self._token.run_sync_soon)
        self.timer_queues = TimerQueues(self._call_at_in_empty_context, self.time)

    def call_at(self, when: float, callback: Callable[[], object]) -> TrioTask:
        async def wait() -> None:
            await trio.sleep_until(when)
            callback()

        return TrioTask(wait)

    def _call_at_in_empty_context(self, when: float, callback: Callable[[], object]) -> TrioTask:
        return Context().run(self.call_at, when, callback)

    def in_loop(self) -> bool:
        # Not the thread that made this object: another trio run may have the same thread.
        try:
            return trio.lowlevel.current_trio_token() is self._token
        except RuntimeError:  # no trio run in this thread
            return False

    def run_in_loop(self, callback: Callable[[], object]) -> None:
        if self.in_loop():
            callback()
            return
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(callback)

    def spawn(
        self, function: Callable[[], Coroutine[Any, Any, None]], context: Context | None = None
    ) -> TrioTask:
        return TrioTask(function, context)

    def current_task(self) -> TrioAppTask:
        return TrioAppTask()

    def app_task(self, task: TrioAppTask) -> TrioAppTask:
        return task

    def parker(self) -> TrioParker:
        return TrioParker()

    def interruptible(self) -> TrioInterruptible:
        return TrioInterruptible()


class TrioTask:
    """See `Task`. A system task: no parent cancels it or waits for it."""

    def __init__(
        self, function: Callable[[], Coroutine[Any, Any, None]], context: Context | None = None
    ) -> None:
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        if context is None:
            context = copy_context()
        trio.lowlevel.spawn_system_task(self._run, function, context=context)

    async def _run(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            with self._scope:
                await function()
        finally:
            self._ended.set()

    def run_eagerly(self, work: Coroutine[Any, Any, None]) -> NoReturn:
        raise NotImplementedError

    @property
    def cancel_requested(self) -> bool:
        return self._scope.cancel_called

    def cancel(self) -> None:
        self._scope.cancel()

    @property
    def done(self) -> bool:
        return self._ended.is_set()

    async def join(self, timeout: float) -> None:
        with trio.move_on_after(timeout):
            await self._ended.wait()


class TrioAppTask:
    """See `AppTask`. The app runs in a cancel scope, which tells its own cancellation from
    others."""

    settled = True

    def __init__(self) -> None:
        self.ended = False
        self.scope = trio.CancelScope()

    def cancel(self) -> None:
        if not self.ended:
            self.scope.cancel()

    def counting_cancels(
        self, callback: Callable[..., object], /, *args: Any, **kwargs: Any
    ) -> None:
        callback(*args, **kwargs)  # trio has no `task.cancel` that a callback could call

    def if_cancelled_outside(self, callback: Callable[[], object]) -> None:
        pass  # servers on trio wait until the app has ended

    # A cancellation that leaves `scope`, or that arrives outside `scope`, is not our own.

    def app_ended(self, *, cancelled: bool) -> bool:
        self.ended = True
        return cancelled

    def cancellation_arrived(self) -> bool:
        return True

    async def settle(self) -> None:
        pass

    def uncancel(self) -> None:
        pass


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


class TrioWakeup:
    """See `Wakeup`."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._event = trio.Event()

    def wait(self) -> Awaitable[None]:
        return self._event.wait()

    def wake(self) -> None:
        # Never `set` at once: this may be a signal handler that has interrupted `Event.wait`.
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._event.set)


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
