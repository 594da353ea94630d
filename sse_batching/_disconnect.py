"""What follows when a request ends early: the token, the grace period, late sends, exceptions."""

from __future__ import annotations

import gc
import sys
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Final

import anyio
from starlette.requests import ClientDisconnect

from ._cause import Cause
from ._loop import AppTask, LazyTimer, Loop
from ._policy import ends_response
from ._receiver import Receiver
from ._types import Message
from .cancellation import CancellationToken, call
from .exceptions import ClientDisconnected, StreamCancelled

FRAMEWORK_TIME: Final = 0.1
"""Seconds that a framework gets, after `http.disconnect`, to cancel its generator by itself. The
slowest one measured takes 4 ms."""

IGNORED_AFTER_WAIT: Final = 16
"""Sends that are ignored after one that was waiting. Django takes four loop iterations to cancel
its handler, and may call `send` in each."""

KEPT_EXCEPTIONS: Final = 8
"""The most exceptions to keep until their tracebacks are cleared. As many tasks of an app may be in
`send` or `receive` when the app ends."""

FOLLOW_DISCONNECT: Final = (
    ClientDisconnected,
    StreamCancelled,
    ClientDisconnect,
    # Raised where a task of the app writes to a task that has ended (FastAPI's
    # EventSourceResponse).
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
)
"""What an app raises because its client is gone: see `follows_disconnect`."""

SENDER_OF_A2WSGI: Final = "WSGIResponder.sender"
"""The coroutine of a2wsgi's task that calls `send`: see `Disconnect.only_signals`."""


class Disconnect:
    """Owns the first cause of one request: cancels the token, and shows the app what has happened.

    An app that never asked for the token sees `http.disconnect` at once, as without the middleware.
    So does an app that only observes its token. An app that asked gets the grace period first.
    After the grace period the app sees `http.disconnect`, and is cancelled if it still streams.

    A late `send` comes after the cause, or was waiting when the cause came. A late `send` is
    rejected: it raises. But if the app is also waiting in `receive`, one late `send` is ignored: it
    returns. The framework then learns of the disconnect from `receive`, even within the grace
    period, and cancels its generator at an `await` of the generator's own, which closes the
    generator. A rejected `send` would leave the generator suspended until a garbage collection.

    If the ignored `send` was waiting when the cause came, and the app never asked for the token,
    the following ones are ignored, too, up to `IGNORED_AFTER_WAIT`. The app goes on at once, and
    frameworks take some loop iterations to cancel it.
    """

    __slots__ = (
        "_app_task",
        "_grace_timer",
        "_ignore",
        "_ignored_timer",
        "_kept",
        "_last_call",
        "_loop",
        "_receiver",
        "_rejected",
        "_token",
        "app_error_raised",
        "cause",
        "grace_period",
        "must_stop",
        "only_signals",
        "since",
        "token_requested",
    )

    def __init__(
        self, loop: Loop, app_task: AppTask, receiver: Receiver, grace_period: float
    ) -> None:
        self.cause: Cause | None = None
        self.since: float | None = None
        """When the cause came, on the clock of the event loop."""
        self.must_stop = False
        """True if the app is to be cancelled after the grace period, because it streams."""
        self.only_signals = False
        """True for an app of a2wsgi's: a late `send` is always ignored, and the app is never
        cancelled. a2wsgi 1.10.10 calls `send` in a task of its own, which ends if `send` raises or
        the app is cancelled. The thread of the WSGI app then waits endlessly for room in the queue
        that the task would have emptied. Ten of these threads are all that a mount has."""
        self.app_error_raised = False
        """True once a late `send` has raised the app error that is the cause."""
        self._loop = loop
        self._app_task = app_task
        self._receiver = receiver
        self.grace_period = grace_period
        self.token_requested = False
        """True once the app has asked for the token, and with it for the grace period."""
        self._token: CancellationToken | None = None
        self._last_call: float | None = None  # when the app is cancelled; None: not notified yet
        self._grace_timer = LazyTimer(loop, self._grace_period_over)
        self._ignore: int | None = None  # late sends to ignore; None: nobody waited in `receive`
        self._ignored_timer: LazyTimer | None = None
        self._rejected = False  # True once a late `send` has raised
        self._kept: deque[BaseException] | None = None

    # The token.

    def set_token(self, token: CancellationToken, *, grace: bool) -> None:
        """Cancel this token with the first cause, now or when the cause comes. `grace`: the app has
        not only observed its token, but asked for it."""
        self._token = token
        self.token_requested = grace
        # A callback of the token may cancel the app's own task: `token.register(task.cancel)`. The
        # reference is weak: an agent's thread that holds the token must not keep alive a request
        # that is dropped with its event loop, since its end is what cancels the token.
        app_task = weakref.ref(self._app_task)

        def call_and_count(callback: Callable[..., object], /, *args: Any, **kwargs: Any) -> None:
            task = app_task()
            (call if task is None else task.counting_cancels)(callback, *args, **kwargs)

        token.call_callback = call_and_count
        if self.cause is not None:
            token.cancel(*self.cause[:3])

    @property
    def stopped_by(self) -> Cause | None:
        """The cause that a cancelled token names; None if the token is not cancelled. While `cause`
        is None, only code of the app's can have cancelled the token."""
        token = self._token
        if token is None or token.reason is None:
            return None
        return Cause(token.reason, token.message or str(token.reason), token.error)

    def release(self) -> None:
        """Drop the token, the kept exceptions, and what refers to this object."""
        self._kept = None
        self._ignored_timer = None
        self._grace_timer.release()
        if self._token is not None:
            self._token.call_callback = call
            self._token = None
        self.token_requested = False

    # From the cause to the app.

    def begin(self, cause: Cause) -> None:
        """Record the first cause and cancel the token. The callbacks run now."""
        self._decide_ignored()
        self.cause = cause
        self.since = self._loop.time()
        if self._token is not None:
            self._token.cancel(*cause[:3])

    def notify_app(self) -> None:
        """Let the app see `http.disconnect`: now, or after the grace period."""
        if self._app_task.ended:
            return
        if not self.token_requested:
            self._receiver.deliver_disconnect()
        else:
            assert self.since is not None  # `begin` was called
            self._grace_timer.reschedule(self.since + self.grace_period)

    def _grace_period_over(self, now: float) -> float | None:
        if self._last_call is None:
            # Counted from now, even if the timer is late: the framework sees the disconnect now.
            self._last_call = now + FRAMEWORK_TIME if self._receiver.app_waits else now
            self._receiver.deliver_disconnect()
        if not self.must_stop or self.only_signals:
            return None
        if now < self._last_call:
            return self._last_call
        self._app_task.cancel()
        return None

    def stop(self) -> None:
        """Stop the timers: the app has ended."""
        self._grace_timer.stop()
        if self._ignored_timer is not None:
            self._ignored_timer.stop()

    # Late sends.

    def reject_or_ignore(self, *, waited: bool) -> None:
        """Raise from a late `send`, or return if this one is ignored.

        `waited`: the `send` was waiting when the cause came. Raises `ClientDisconnected`, or the
        server's exception if the cause is an app error.
        """
        if not self.token_requested:
            self._receiver.deliver_disconnect()
        if self.only_signals or self._ignores(waited=waited):
            return
        self._rejected = True
        cause = self.cause
        assert cause is not None  # `begin` was called
        if cause.is_app_error and cause.error is not None:
            self.app_error_raised = True
            raise cause.error
        error = ClientDisconnected(cause.message, cause.reason)
        self.clear_traceback_later(error)
        raise error from cause.error

    def _ignores(self, *, waited: bool) -> bool:
        """Return True if this late `send` is ignored, and count it."""
        self._decide_ignored()
        if not self._ignore:
            return False
        if waited:
            if not self.token_requested:
                # The app goes on at once, and the framework needs several loop iterations to cancel
                # it.
                self._ignore = IGNORED_AFTER_WAIT
            return True
        self._ignore -= 1
        if self.token_requested:
            # The app has its grace period, and this `send` has returned without an `await`. Without
            # a disconnect in `receive` the framework would call `send` again, and be rejected.
            self._deliver_disconnect_soon()
        return True

    async def reject_or_ignore_late(self, message: Message) -> None:
        """Raise from a `send` that came after the cause, or return if this one is ignored.

        An empty last message that follows a rejected `send` is ignored, too: some frameworks end
        the response after any error, and would log a second one (Sanic).

        An app that catches every exception and never awaits anything else would freeze the event
        loop, so a rejection yields if the loop iteration has lasted too long.
        """
        if self._rejected and ends_response(message) and not message.get("body"):
            return
        try:
            self.reject_or_ignore(waited=False)
        except Exception:
            if self._loop.latency.too_long(self._loop.time()):
                try:
                    await self._loop.checkpoint()
                except BaseException as cancellation:
                    self.clear_traceback_later(cancellation)
                    raise
            raise

    def _decide_ignored(self) -> None:
        if self._ignore is None and self._receiver.app_waits:
            self._ignore = 1

    def _deliver_disconnect_soon(self) -> None:
        """Deliver the disconnect after two more loop iterations.

        By then the generator whose `send` was ignored has reached an `await` of its own. One
        iteration is too short for FastAPI, which wraps another generator around the app's.
        """
        if self._ignored_timer is None:
            iterations = iter(range(2))

            def wait_or_deliver(now: float) -> float | None:
                if next(iterations, None) is not None:
                    return now
                self._receiver.deliver_disconnect()
                return None

            self._ignored_timer = LazyTimer(self._loop, wait_or_deliver)
            self._ignored_timer.reschedule(self._loop.time())

    # Exceptions.

    def clear_traceback_later(self, error: BaseException) -> None:
        """Keep the exception, and clear its traceback when the app has ended.

        The exception is about to be raised in a `send` or `receive` of the app's, and may end the
        app. See `clear_tracebacks`.
        """
        if self._kept is None:
            self._kept = deque(maxlen=KEPT_EXCEPTIONS)
        self._kept.append(error)

    def clear_kept_tracebacks(self, *, frames: bool) -> None:
        """Clear the tracebacks of the kept exceptions: the app has ended.

        `frames`: clear their frames, too. If the app has raised an exception of its own, that
        exception may have the same frames, and an error tracker shows their variables.
        """
        for error in self._kept or ():
            clear_traceback(error, frames=frames)


def sends_for_a2wsgi(task: object) -> bool:
    """Return True if this task calls `send` for a WSGI app that a2wsgi runs in a thread.

    `task`: what `Loop.current_task` returned. On trio, where a2wsgi does not run, this has no
    coroutine.
    """
    get_coro = getattr(task, "get_coro", None)
    return get_coro is not None and getattr(get_coro(), "__qualname__", "") == SENDER_OF_A2WSGI


def follows_disconnect(error: BaseException) -> bool:
    """Return True if the app raised this exception only because its client is gone.

    Such an exception is not news to the server, and needs no traceback in the server's log. Another
    exception that the app raises during its cleanup is not swallowed.
    """
    seen: set[int] = set()
    chains: list[BaseException] = [error]  # each has to follow from the disconnect
    while chains:
        part: BaseException | None = chains.pop()
        while not isinstance(part, FOLLOW_DISCONNECT):
            if part is None or id(part) in seen:  # exceptions can refer in circles
                return False
            seen.add(id(part))
            if isinstance(part, BaseExceptionGroup):
                chains += part.exceptions
                break
            part = part.__cause__
    return True


def clear_tracebacks(error: BaseException) -> None:
    """Clear the tracebacks of a swallowed exception, and of all exceptions that it refers to, with
    the local variables of their frames.

    The frames of a traceback hold the app's generator, which stays suspended as long as the frames
    live. If a frame refers to its own exception or traceback, only a garbage collection frees the
    frame. A frame of anyio's does so: the function that anyio calls when a task of a group is done.
    So do those of ddtrace. A log handler may keep a traceback for even longer.
    """
    seen: set[int] = set()
    found: list[BaseException | None] = [error]
    while found:
        part = found.pop()
        if part is None or id(part) in seen:  # exceptions can refer in circles
            continue
        clear_traceback(part)
        seen.add(id(part))
        found += (part.__cause__, part.__context__)
        if isinstance(part, BaseExceptionGroup):
            found += part.exceptions


def clear_traceback(error: BaseException, *, frames: bool = True) -> None:
    """Clear the traceback of one exception. `frames`: clear the local variables of those frames
    that have ended, too."""
    traceback, error.__traceback__ = error.__traceback__, None
    while frames and traceback is not None:
        frame = traceback.tb_frame
        if has_ended(frame):
            with suppress(RuntimeError):
                frame.clear()
        traceback = traceback.tb_next


def has_ended(frame: FrameType) -> bool:
    """Return False if the frame is suspended, and `frame.clear` would end the suspended task.

    Such a task has caught the exception and lives on. From Python 3.13 on, `frame.clear` raises
    RuntimeError for a suspended frame. Before, only a frame that has ended owns its variables, and
    so refers to its code.
    """
    return sys.version_info >= (3, 13) or any(
        part is frame.f_code for part in gc.get_referents(frame)
    )
