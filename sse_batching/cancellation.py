"""The token that tells an agent to stop: in the event loop, in threads, and by callbacks."""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Final, NoReturn, ParamSpec, Self

from ._loop import current_wakeup
from .exceptions import StreamCancelled
from .reasons import CancelReason

__all__ = ["CancelReason", "CancellationToken", "Registration"]

P = ParamSpec("P")

logger: Final = logging.getLogger("sse_batching")

CAUSE: Final = "cause"

SIGNAL_INTERVAL: Final = 1.0
"""Seconds after which a `wait` of the main thread lets Python run its signal handlers. A handler
runs between two steps of the main thread. So a signal that comes just before a call begins to block
is handled only after that call."""


def call(callback: Callable[..., object], /, *args: Any, **kwargs: Any) -> None:
    """Call the callback with these arguments."""
    callback(*args, **kwargs)


class Registration:
    """A registered callback of a token. As a context manager, it unregisters the callback at the
    end of the block."""

    __slots__ = ("_key", "_token")

    def __init__(self, token: CancellationToken, key: object) -> None:
        self._token = token
        self._key = key

    def unregister(self) -> bool:
        """Unregister the callback. Return True if the callback was not called, and never will be.

        Safe in any thread, any number of times. *Not guaranteed*: that a callback which another
        thread is running has finished.
        """
        return self._token._forget(self._key) is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.unregister()


class CancellationToken:
    """A flag that is set once and never cleared: "nobody needs this work any more".

    Usable without the middleware. All methods are safe in any thread, any task, and any signal
    handler, also in one that has interrupted another method of the same token. A copy of a token,
    also a deep copy, is the token itself: a copy of its own would never be cancelled.

    *Not guaranteed*: that the work stops. The code that does the work has to check the token.
    """

    # Threads and signal handlers may race for each step below, so each step is one atomic operation
    # of a dict. A lock that is held for a step would deadlock: a signal handler runs in the thread
    # that holds the lock.

    __slots__ = ("_callbacks", "_cause", "_waiting", "call_callback", "cancelled")

    def __init__(self) -> None:
        self.call_callback: Callable[..., None] = call
        """Private. Calls each callback of `register`, and what wakes the tasks in `wait_async`. The
        middleware counts what they cancel."""
        self.cancelled = False
        """True once cancelled. A plain attribute, cheap enough for an inner loop. Only `cancel`
        sets this attribute."""
        self._cause: dict[str, tuple[CancelReason, str | None, BaseException | None]] = {}
        self._callbacks: dict[object, Callable[[], object]] = {}  # in the order of registration
        self._waiting: dict[Callable[[], None], bool] = {}
        """What wakes each thread in `wait` (False) and each task in `wait_async` (True)."""

    @property
    def reason(self) -> CancelReason | None:
        """The reason; None until cancelled."""
        return self._cause[CAUSE][0] if self._cause else None

    @property
    def message(self) -> str | None:
        """The message for people, such as "SSE client disconnected"; None if there is none."""
        return self._cause[CAUSE][1] if self._cause else None

    @property
    def error(self) -> BaseException | None:
        """The exception of the write that failed; None if no write failed."""
        return self._cause[CAUSE][2] if self._cause else None

    def cancel(
        self,
        reason: CancelReason = CancelReason.REQUESTED,
        message: str | None = None,
        error: BaseException | None = None,
    ) -> bool:
        """Cancel the token. Return True for the first call. Later calls change nothing.

        Synchronous: when the first call returns, the callbacks have run in this thread, in the
        order in which they were registered. A later call does not wait for them. The exception of a
        callback is logged, and the other callbacks still run. `KeyboardInterrupt` and `SystemExit`
        are raised again after the last callback. Raises `ValueError` for an unknown reason.
        """
        cause = (CancelReason(reason), message, error)
        first = self._cause.setdefault(CAUSE, cause) is cause
        self.cancelled = True
        if not first:
            return False
        for wake, in_task in list(self._waiting.items()):
            # A task that waits may cancel the task of the request, as a callback may.
            if in_task:
                self.call_callback(wake)
            else:
                wake()
        stop: BaseException | None = None
        for key in list(self._callbacks):
            stop = self._call(key) or stop
        if stop is not None:
            raise stop
        return True

    def raise_if_cancelled(self) -> None:
        """Raise `StreamCancelled` if the token is cancelled. `error` is the exception's
        `__cause__`."""
        if self.cancelled:
            reason, message, error = self._cause[CAUSE]
            raise StreamCancelled(message or str(reason), reason) from error

    def wait(self, timeout: float | None = None) -> bool:
        """Block this thread until the token is cancelled, at most `timeout` seconds. Return True if
        the token is cancelled.

        For threads only. In a task, `wait` would block the event loop: use `wait_async` there.
        """
        end = None if timeout is None else time.monotonic() + timeout
        in_main_thread = threading.get_ident() == threading.main_thread().ident
        longest = SIGNAL_INTERVAL if in_main_thread else threading.TIMEOUT_MAX
        lock = threading.Lock()
        lock.acquire(blocking=False)
        try:
            self._waiting[lock.release] = False
            # Read after the lock can be found: `cancel` sets `cancelled` before it looks for locks.
            while not self.cancelled:
                left = longest if end is None else min(end - time.monotonic(), longest)
                if left <= 0 or lock.acquire(timeout=left):
                    break
        finally:
            self._waiting.pop(lock.release, None)
        return self.cancelled

    async def wait_async(self) -> None:
        """Wait until the token is cancelled, in a task of any event loop.

        A cancelled wait leaves nothing behind. `cancel` never waits for the event loop, which may
        be blocked, stopped or closed, and starts no thread.
        """
        wakeup = current_wakeup()
        self._waiting[wakeup.wake] = True
        try:
            # Read after the wakeup can be found, as in `wait`.
            if self.cancelled:
                wakeup.wake()
            await wakeup.wait()
        finally:
            self._waiting.pop(wakeup.wake, None)

    def register(
        self, callback: Callable[P, object], *args: P.args, **kwargs: P.kwargs
    ) -> Registration:
        """Call `callback(*args, **kwargs)` once, when the token is cancelled; now, if it already
        is.

        The callback runs in the thread that cancels, or in this thread if the token is cancelled
        already. When the middleware cancels, that is the thread of the event loop, so the callback
        must be quick and must not block. A coroutine function raises `TypeError`.

        `token.register(agent.interrupt, "SSE client disconnected")` is all that an agent with an
        interrupt method needs. Others need `token.register(task.cancel)` or
        `token.register(event.set)`.
        """
        if not callable(callback):
            raise TypeError(f"callback must be callable; got {callback!r}")
        if inspect.iscoroutinefunction(callback):
            raise TypeError(f"callback must be a plain function, nobody would await {callback!r}")
        key = object()
        self._callbacks[key] = partial(callback, *args, **kwargs)
        # Read after the registration, or a cancellation between the two would be missed.
        if self.cancelled and (stop := self._call(key)):
            raise stop
        return Registration(self, key)

    def _forget(self, key: object) -> Callable[[], object] | None:
        """Remove a callback, and return it if it was still registered: of several threads, only one
        gets the callback."""
        return self._callbacks.pop(key, None)

    def _call(self, key: object) -> BaseException | None:
        """Call a callback if it is still registered. Return an exception that must be raised."""
        callback = self._forget(key)
        if callback is None:
            return None
        try:
            self.call_callback(callback)
        except (KeyboardInterrupt, SystemExit) as stop:
            return stop
        except BaseException as error:
            # A task of a closed event loop cannot be cancelled, and need not be: it runs no more.
            closed = isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
            level = logging.DEBUG if closed else logging.ERROR
            logger.log(level, "a cancellation callback failed", exc_info=True)
        return None

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a CancellationToken cannot be pickled: it works in one process only")

    def __repr__(self) -> str:
        state = f"cancelled: {self.reason}" if self.cancelled else "not cancelled"
        return f"<CancellationToken {state}>"
