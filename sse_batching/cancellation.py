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

CAUSE: Final = "cause"
FLAG: Final = "flag"
MISSING: Final = object()


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

    Usable without the middleware. All methods are safe from any thread, any task, and any signal
    handler: they take no lock.

    *Not guaranteed*: that anything stops. The token asks; who is asked has to look. And a signal
    handler (`signal.signal`) that cancels wakes the tasks in `wait_async` only when their event
    loop has something else to do; `loop.add_signal_handler` wakes them at once.
    """

    # Every step below that two threads may race for is one operation of a dict: it happens or not.

    __slots__ = ("_callbacks", "_cause", "_flag", "cancelled")

    def __init__(self) -> None:
        self.cancelled = False
        """A plain attribute, cheap enough for an inner loop. Read it; `cancel` sets it."""
        self._cause: dict[str, tuple[CancelReason, str | None, BaseException | None]] = {}
        self._callbacks: dict[Registration, object] = {}
        self._flag: dict[str, threading.Event] = {}

    @property
    def reason(self) -> CancelReason | None:
        """Why; None until cancelled."""
        return self._cause[CAUSE][0] if self._cause else None

    @property
    def message(self) -> str | None:
        """For people: "SSE client disconnected"."""
        return self._cause[CAUSE][1] if self._cause else None

    @property
    def error(self) -> BaseException | None:
        """What the failing write raised, where there was one."""
        return self._cause[CAUSE][2] if self._cause else None

    def cancel(
        self,
        reason: CancelReason = CancelReason.REQUESTED,
        message: str | None = None,
        error: BaseException | None = None,
    ) -> bool:
        """Cancel. True for the one call that did it; every later call changes nothing.

        Synchronous: when the call that did it returns, the callbacks have run, in the order in
        which they were registered, in this thread. What one of them raises is logged, and the
        others still run; `KeyboardInterrupt` and `SystemExit` go on when all have run. Raises
        `ValueError` for a reason that is none.
        """
        cause = (CancelReason(reason), message, error)
        first = self._cause.setdefault(CAUSE, cause) is cause
        self.cancelled = True
        if not first:
            return False
        if flag := self._flag.get(FLAG):
            flag.set()
        stop: BaseException | None = None
        for registration in list(self._callbacks):
            stop = self._call(registration) or stop
        if stop is not None:
            raise stop
        return True

    def raise_if_cancelled(self) -> None:
        """Raise `StreamCancelled`, from the `error` if there is one, once cancelled."""
        if self.cancelled:
            reason, message, error = self._cause[CAUSE]
            raise StreamCancelled(message or str(reason), reason) from error

    def wait(self, timeout: float | None = None) -> bool:
        """Block this thread until cancelled, at most `timeout` seconds; whether it is cancelled.

        For threads only: in a task it would block the event loop; use `wait_async` there.
        """
        flag = self._flag.setdefault(FLAG, threading.Event())
        # Looked at after the flag is there: `cancel` does the two the other way round.
        return self.cancelled or flag.wait(timeout)

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
        self._callbacks[registration] = None
        # Looked at after the registration, so that no cancellation can fall between the two.
        if self.cancelled and (stop := self._call(registration)):
            raise stop
        return registration

    def _forget(self, registration: Registration) -> bool:
        """Whether it was there. Of all who race for it one gets it."""
        return self._callbacks.pop(registration, MISSING) is not MISSING

    def _call(self, registration: Registration) -> BaseException | None:
        """Call it, unless somebody has, or it was taken back. What must go on is returned."""
        if not self._forget(registration):
            return None
        try:
            registration._call()
        except (KeyboardInterrupt, SystemExit) as stop:
            return stop
        except BaseException:
            logger.exception("a cancellation callback failed")
        return None

    def __repr__(self) -> str:
        state = f"cancelled: {self.reason}" if self.cancelled else "not cancelled"
        return f"<CancellationToken {state}>"
