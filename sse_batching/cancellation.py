"""The token that tells the code downstream to stop: in the event loop, in threads, in callbacks."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, ParamSpec, Self

import anyio
import anyio.from_thread
import anyio.lowlevel

from .exceptions import StreamCancelled
from .reasons import CancelReason

__all__ = ["CancelReason", "CancellationToken", "Registration"]

P = ParamSpec("P")

logger: Final = logging.getLogger("sse_batching")


class Registration:
    """A callback that waits for a token. As a context manager it unregisters at the end."""

    __slots__ = ("_call", "_token")

    def __init__(self, token: CancellationToken, call: Callable[[], object]) -> None:
        self._token = token
        self._call = call

    def unregister(self) -> bool:
        """Take the callback back. True if it had not been called, and now never will be.

        Safe from any thread, any number of times. *Not guaranteed*: that a callback which another
        thread is just running has come to its end.
        """
        return self._token._forget(self)

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
    """A flag that is raised once and stays up: "nobody needs this work any more".

    Usable without the middleware. All methods are safe from any thread and any task.

    It asks; it forces nothing. What is asked may be asked late: between the client's leaving and
    the cancellation lies the time that the server needs to notice.
    """

    __slots__ = ("_callbacks", "_flag", "_lock", "cancelled", "error", "message", "reason")

    def __init__(self) -> None:
        self.cancelled = False
        """A plain attribute, cheap enough for an inner loop. Read it; `cancel` sets it."""
        self.reason: CancelReason | None = None
        self.message: str | None = None
        """For people: "SSE client disconnected"."""
        self.error: BaseException | None = None
        """What the failing write raised, where there was one."""
        # Guards all below, and the change of `cancelled`. Reentrant, for a signal handler that
        # cancels while the main thread holds it.
        self._lock = threading.RLock()
        self._callbacks: dict[Registration, None] = {}
        self._flag: threading.Event | None = None  # made by the first thread that waits

    def cancel(
        self,
        reason: CancelReason = CancelReason.REQUESTED,
        message: str | None = None,
        error: BaseException | None = None,
    ) -> bool:
        """Cancel. True for the one call that did it; every later call changes nothing.

        Synchronous: when the call that did it returns, the callbacks have run, in the order in
        which they were registered, in this thread. What one of them raises is logged, and the
        others still run.
        """
        with self._lock:
            if self.cancelled:
                return False
            self.reason = CancelReason(reason)
            self.message = message
            self.error = error
            # Last, for those who look without the lock: whoever sees it finds the reason too.
            self.cancelled = True
            callbacks = list(self._callbacks)
            self._callbacks.clear()
            flag = self._flag
        if flag is not None:
            flag.set()
        for registration in callbacks:
            _run(registration._call)
        return True

    def raise_if_cancelled(self) -> None:
        """Raise `StreamCancelled`, from the `error` if there is one, once cancelled."""
        if self.cancelled:
            assert self.reason is not None  # set before `cancelled`
            raise StreamCancelled(self.message or str(self.reason), self.reason) from self.error

    def wait(self, timeout: float | None = None) -> bool:
        """Block this thread until cancelled, at most `timeout` seconds; whether it is cancelled.

        For threads only: in a task it would block the event loop; use `wait_async` there.
        """
        with self._lock:
            if self.cancelled:
                return True
            if self._flag is None:
                self._flag = threading.Event()
            flag = self._flag
        return flag.wait(timeout)

    async def wait_async(self) -> None:
        """Wait, in a task of any event loop, until cancelled. A wait that ends leaves nothing."""
        event = anyio.Event()
        loop = anyio.lowlevel.current_token()
        home = threading.get_ident()

        def wake() -> None:
            if threading.get_ident() == home:
                event.set()
            else:
                # `from_thread.run_sync` waits for the loop to answer. A thread of its own does
                # that waiting, so that `cancel` never waits for a loop that may be waiting for it.
                threading.Thread(target=set_in_loop, daemon=True).start()

        def set_in_loop() -> None:
            try:
                anyio.from_thread.run_sync(event.set, token=loop)
            except RuntimeError:  # the loop has ended, and the waiting task with it
                logger.debug("a task that waited for a token is gone with its event loop")

        with self.register(wake):
            await event.wait()

    def register(
        self, callback: Callable[P, object], *args: P.args, **kwargs: P.kwargs
    ) -> Registration:
        """Have `callback(*args)` called once on cancellation; at once, if already cancelled.

        It runs in the thread that cancels: for the middleware that is the thread of the event
        loop, so it must be quick and must not block. A coroutine function raises `TypeError`.
        ``token.register(agent.interrupt, "SSE client
        disconnected")`` is the whole wiring for an agent that has an interrupt method;
        ``token.register(task.cancel)`` and ``token.register(event.set)`` do for others.
        """
        if not callable(callback):
            raise TypeError(f"callback must be callable; got {callback!r}")
        if inspect.iscoroutinefunction(callback):
            raise TypeError(f"callback must be a plain function, nobody would await {callback!r}")
        registration = Registration(self, lambda: callback(*args, **kwargs))
        with self._lock:
            self._callbacks[registration] = None
        # Looked at after the registration, so that no cancellation can fall between the two.
        if self.cancelled and self._forget(registration):
            _run(registration._call)
        return registration

    def _forget(self, registration: Registration) -> bool:
        with self._lock:
            if registration not in self._callbacks:
                return False
            del self._callbacks[registration]
            return True

    def __repr__(self) -> str:
        state = f"cancelled: {self.reason}" if self.cancelled else "not cancelled"
        return f"<CancellationToken {state}>"


def _run(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:
        logger.exception("a cancellation callback failed")
