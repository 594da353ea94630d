"""What happened in a run, as the server, the app and the client saw it."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sse_batching import CancellationToken, StreamReport
from tests.fuzz.plan import Request

Message: TypeAlias = MutableMapping[str, Any]


class AppError(Exception):
    """An error of the app's own."""


class ServerError(RuntimeError):
    """The server's answer to a mistake of the app's."""


class ServerGone(ConnectionResetError):
    """A write found the client gone."""


@dataclass(eq=False)
class Sent:
    """A call of `send` by the app."""

    producer: int
    message: Message
    """A copy of the message."""
    called: float
    turn: int
    order: int
    """The place of the call among all calls of `send` and their returns."""
    in_background: bool = False
    returned: float | None = None
    return_order: int = 0
    at_once: bool = False
    """True if it returned in the iteration of the event loop in which it was called."""
    error: BaseException | None = None
    changed: bool = False
    """True if the message was not the same afterwards."""
    delivered_before: int = 0
    """How many bytes the server had taken when it returned."""


@dataclass(eq=False)
class Taken:
    """A call of the server's `send`."""

    message: Message
    began: float
    order: int
    by_app: bool
    """True if the call was made by a task of the app's that is in `send`."""
    ended: float | None = None
    end_order: int = 0
    result: str = "open"
    """`open`, `taken`, `failed`, `cancelled` or `closed`."""
    error: BaseException | None = None
    cancellations: int = 0
    cancelled_by_all: bool = False


@dataclass(eq=False)
class Seen:
    """What happened to one request."""

    number: int
    request: Request
    began: float = 0.0
    # The app.
    sent: list[Sent] = field(default_factory=list)
    sending: list[object] = field(default_factory=list)
    """The tasks of the app that are in `send` now."""
    app_began: bool = False
    app_ended: float | None = None
    app_raised: BaseException | None = None
    swallowed: int = 0
    """How many cancellations the app has caught and not raised again."""
    received: list[Message] = field(default_factory=list)
    receive_errors: list[BaseException] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    """What a rule does not have to judge: it must never happen."""
    token: CancellationToken | None = None
    asked: float | None = None
    own_stop: bool = False
    """True if the app cancelled the token itself."""
    registered: int = 0
    calls: list[float] = field(default_factory=list)
    """When the registered callbacks were called."""
    generator: str = ""
    """`open` or `closed`, if the app has a generator."""
    generator_left_open: bool = False
    jobs: list[Any] = field(default_factory=list)
    """Tasks that outlive the app."""
    # The server.
    taken: list[Taken] = field(default_factory=list)
    said: list[Message] = field(default_factory=list)
    """What the server's `receive` returned."""
    left: float | None = None
    disconnect_said: float | None = None
    disconnect_order: int = 0
    disconnect_got: float | None = None
    """When the app's `receive` returned the disconnect."""
    waited_since: float | None = None
    complete: bool = False
    cancels: int = 0
    """How often the request's task was cancelled from outside, while the middleware ran."""
    cancels_after_app: int = 0
    ended: float | None = None
    ended_order: int = 0
    out: BaseException | None = None
    cancelling: int = 0
    late_cancel: bool = False
    """True if a cancellation came out behind the middleware."""
    timed_out: bool | None = None
    reports: list[StreamReport] = field(default_factory=list)
    cancelled_at_end: bool = False
    """True if the token was cancelled when the middleware ended."""
    open_at_close: bool = False
    """True if the event loop was closed while the request was served."""
    stream_id: str = ""

    def cancelled_outside(self) -> None:
        """Count a cancellation of the request's task that comes from outside."""
        if self.ended is None:
            self.cancels += 1
            if self.app_ended is not None:
                self.cancels_after_app += 1

    def drop_tracebacks(self) -> None:
        """Drop the frames that the noted exceptions hold, as a server does that has logged them.

        The generator of the app would otherwise live as long as the notes.
        """
        errors: list[Any] = [self.out, self.app_raised, *self.receive_errors]
        errors += [one.error for one in self.sent]
        errors += [one.error for one in self.taken]
        errors += [job.error for job in self.jobs]
        done: set[int] = set()
        while errors:
            error: Any = errors.pop()
            if error is not None and id(error) not in done:
                done.add(id(error))
                error.__traceback__ = None
                errors += [error.__cause__, error.__context__]
                if isinstance(error, BaseExceptionGroup):
                    errors += error.exceptions


@dataclass
class History:
    """What happened in a run."""

    requests: list[Seen]
    problems: list[str] = field(default_factory=list)
    """What the event loop's exception handler and `sys.unraisablehook` were told."""
    stuck: str = ""
    left_over: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    closed: bool = False
