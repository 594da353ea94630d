"""Time, timers and tasks of the running event loop.

In the package, only this folder and the clock of `sse_batching.testing` import asyncio or trio.

`current_loop()` returns the `Loop` of the running event loop: asyncio's (uvloop's, too) or trio's.
Both implement the protocols below, whose docstrings state the contract.

On CPython 3.11 alone, which gets only security fixes, this folder uses private names of asyncio.
They were checked on 3.11.7:

- `asyncio.tasks._current_tasks`, in `_asyncio.py`;
- `asyncio.tasks._enter_task`, `asyncio.tasks._leave_task` and
  `asyncio.Future._asyncio_future_blocking`, in `_stepped.py`.

On every version, it sets `asyncio.Task._log_destroy_pending`, which asyncio sets itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractContextManager
from contextvars import Context
from typing import Any, Protocol

from ._asyncio import AsyncioLoop, AsyncioWakeup
from ._latency import LoopLatency as LoopLatency
from ._timers import LazyTimer as LazyTimer, Timer as Timer, TimerQueue as TimerQueue


class Suspended(Protocol):
    """The rest of work that `Task.run_eagerly` has begun. The task has to await the rest, once, and
    a cancellation of the task then reaches the work."""

    def cancel(self) -> object:
        """Cancel the work before the rest is awaited: the task was cancelled while it was parked.

        The rest has to be awaited nevertheless, because the work may clean up, or go on.
        """

    def done(self) -> bool:
        """Return True if the work has ended."""

    def result(self) -> None:
        """Return None, or raise what the work has raised. Only for work that is `done`."""

    def __await__(self) -> Generator[Any, Any, None]: ...


class Task(Protocol):
    """A task of this package, besides the one in which the server runs the app."""

    def run_eagerly(self, work: Coroutine[Any, Any, None]) -> Suspended | None:
        """Run `work` in the context of this parked task until `work` first waits.

        All of `work` runs in one task: a new one, or this one. Return None if `work` has ended.
        Otherwise return the rest, which this task has to await. Raises what `work` raises. Call
        this method from a callback of the event loop, on a loop with `can_run_eagerly`.
        """

    @property
    def cancel_requested(self) -> bool:
        """True if the task was cancelled, and the cancellation was not undone."""

    def cancel(self) -> None:
        """Request the cancellation of the task."""

    @property
    def done(self) -> bool:
        """True once the task has ended."""

    async def join(self, timeout: float) -> None:
        """Wait until the task has ended, at most `timeout` seconds. Never raises what the task
        raised."""


class AppTask(Protocol):
    """The task in which the server runs the app, and the cancellations requested for that task."""

    @property
    def scope(self) -> AbstractContextManager[Any]:
        """The context in which the app runs, on a loop with `needs_cancel_scope`."""

    def cancel(self) -> None:
        """Cancel the app, if it has not ended."""

    def counting_cancels(
        self, callback: Callable[..., object], /, *args: Any, **kwargs: Any
    ) -> None:
        """Call a callback of the token. Count as our own the cancellations of this task that the
        callback requests: now, or by what the callback schedules in the event loop.

        `token.register(task.cancel)` and `token.register(loop.call_soon_threadsafe, task.cancel)`
        register such a callback, if `task` is the app's. Safe in any thread.
        """

    def if_cancelled_outside(self, callback: Callable[[], object]) -> None:
        """Call back in the next loop iteration, if the cancellation that is being handled came from
        outside this package. To be called in the `except` block that handles the cancellation.

        A server that shuts down may run only one more loop iteration (uvicorn), so the callback
        must not wait until the app has ended. Servers on trio do wait, so nothing is called there.
        """

    # The end of the request, in this order:

    def app_ended(self, *, cancelled: bool) -> bool:
        """Note that the app has ended: `cancel` does nothing any more. Return True if the app was
        cancelled from outside this package.

        `cancelled`: the app ended with a cancellation.
        """

    @property
    def ended(self) -> bool:
        """True after `app_ended`."""

    def cancellation_arrived(self) -> bool:
        """Return True if the cancellation that is being handled came from outside this package. To
        be called once for each cancellation that interrupts the end of the request."""

    @property
    def settled(self) -> bool:
        """True if no cancellation of our own can arrive any more."""

    async def settle(self) -> None:
        """Wait until no cancellation of our own can arrive any more."""

    def uncancel(self) -> None:
        """Undo the cancellations counted as our own."""


class Parker(Protocol):
    """The place where one task waits for work. While the task waits there, it is parked."""

    @property
    def parked(self) -> bool:
        """True while the task waits and nobody has woken it."""

    def park(self) -> Awaitable[None]:
        """Wait for `unpark`. For one task at a time."""

    def unpark(self) -> None:
        """Wake the task, if it is parked. An `unpark` before `park` has no effect."""


class Wakeup(Protocol):
    """One wait of one task, which any thread can end."""

    def wait(self) -> Awaitable[None]:
        """Wait for `wake`. Return at once, but let a pending cancellation through, if `wake` was
        called before."""

    def wake(self) -> None:
        """End the wait. Safe in any thread and in any signal handler.

        Never waits for the event loop. Does nothing once the event loop has ended.
        """


class Interruptible(Protocol):
    """A wait of the running task, as a `with` block that other tasks can interrupt."""

    @property
    def interrupted(self) -> bool:
        """True if `interrupt`, and no other cancellation, ended the wait."""

    def __enter__(self) -> object: ...

    def __exit__(self, *error: Any) -> bool: ...  # noqa: PYI036

    def interrupt(self) -> None:
        """End the wait. Call this method from another task or from a callback."""


class Loop(Protocol):
    """An event loop. Use it in its own thread, except for `in_loop` and `run_in_loop`."""

    @property
    def time(self) -> Callable[[], float]:
        """Return the time of the event loop, in seconds."""

    @property
    def latency(self) -> LoopLatency:
        """The detector of loop iterations that last too long."""

    def call_at(self, when: float, callback: Callable[[], object], /) -> Timer:
        """Call back at that time."""

    @property
    def timer_queues(self) -> Callable[[float], TimerQueue]:
        """Return the queue for one delay: for deadlines that are at most this many seconds away
        when they are added, and mostly exactly as many.

        The callbacks run in an empty context, not in that of the first waiter.
        """

    def in_loop(self) -> bool:
        """Return True in the thread of the event loop. Safe in any thread."""

    def run_in_loop(self, callback: Callable[[], object]) -> None:
        """Call back in the thread of the event loop: now if this is that thread, else soon.

        Safe in any thread. Does nothing once the event loop has ended.
        """

    def spawn(
        self, function: Callable[[], Coroutine[Any, Any, None]], context: Context | None = None
    ) -> Task:
        """Start a task without a parent: the caller has to `cancel` and `join` the task.

        `context`: the context of the task, itself and no copy; None: a copy of the current one.
        """

    @property
    def can_run_eagerly(self) -> bool:
        """True if `Task.run_eagerly` works: on asyncio, not on trio."""

    @property
    def needs_cancel_scope(self) -> bool:
        """True if `AppTask.cancel` works only around an app that runs in `AppTask.scope`."""

    def current_task(self) -> Any:
        """Return what `app_task` takes: the running task; on trio, a new `TrioAppTask`."""

    def app_task(self, task: Any) -> AppTask:
        """Return the `AppTask` for what `current_task` returned in the task that runs the app."""

    def parker(self) -> Parker:
        """Return a new place for a task to wait."""

    def interruptible(self) -> Interruptible:
        """Return a new interruptible wait of the running task."""

    def checkpoint(self) -> Awaitable[None]:
        """Let all other tasks run once."""


def current_wakeup() -> Wakeup:
    """Return a new `Wakeup` for the running task."""
    try:
        return AsyncioWakeup(asyncio.get_running_loop())
    except RuntimeError:
        from ._trio import TrioWakeup  # as in `current_loop`

        return TrioWakeup()


_last: AsyncioLoop | None = None  # fast path: the loop of the previous call, nearly always this one
_local = threading.local()


def current_loop() -> Loop:
    """Return the `Loop` of the event loop that runs in this thread. Each event loop has one."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        from ._trio import current_trio_loop  # an app on asyncio needs no trio

        return current_trio_loop()
    global _last
    found = _last
    if found is None or found.loop is not loop:
        found = getattr(_local, "loop", None)
        if found is None or found.loop is not loop:
            found = _local.loop = AsyncioLoop(loop)
        _last = found
    return found
