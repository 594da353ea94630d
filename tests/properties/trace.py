"""What happened in one request, as its app and its server saw it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from starlette.types import Message

from sse_batching import CancelReason, StreamReport

Outcome = Literal["returned", "refused", "raised", "cancelled", "waiting"]


class Moment(NamedTuple):
    """When, in seconds from the start of the request; and its place among all that happened."""

    time: float
    tick: int


NEVER = Moment(float("inf"), 1 << 60)


@dataclass(slots=True)
class Call:
    """A `send` or a `flush` of the app's."""

    kind: str
    body: bytes
    called: Moment
    alone: bool
    """Whether no other was under way: it need not line up."""
    ended: Moment = NEVER
    outcome: Outcome = "waiting"
    error: BaseException | None = None


@dataclass(slots=True)
class Write:
    """A call of the server's `send`."""

    message: Message
    began: Moment
    ended: Moment = NEVER
    taken: bool = False
    """Whether it is delivered: it returned. Whether the client is still there, no server says."""
    error: BaseException | None = None

    @property
    def body(self) -> bytes:
        body: bytes = self.message.get("body", b"")
        return body

    @property
    def is_body(self) -> bool:
        return bool(self.message["type"] == "http.response.body")

    @property
    def is_last(self) -> bool:
        return self.is_body and not self.message.get("more_body", False)

    @property
    def is_comment(self) -> bool:
        return self.body == b":\n"


@dataclass(frozen=True, slots=True)
class Setting:
    """A change of `max_delay` or of `enabled`, by `configure`."""

    kind: str
    value: float
    at: Moment


@dataclass(slots=True)
class Trace:
    """All of it."""

    calls: list[Call] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    tokens_asked: int = 0
    cancellations: list[tuple[Moment, CancelReason | None]] = field(default_factory=list)
    """What a callback of the token was told, each time that it was called."""
    reason: CancelReason | None = None
    """That of the token, when all is over."""
    error_of_token: BaseException | None = None
    reports: list[StreamReport] = field(default_factory=list)
    uploaded: list[Message] = field(default_factory=list)
    """What the server's `receive` has returned."""
    received: list[Message] = field(default_factory=list)
    """What the app's `receive` has returned."""
    readers: int = 0
    """The most calls of the server's `receive` that were under way at a time."""
    unread: int = 0
    """The most bytes that were read of the request body and not yet asked for by the app."""
    left: Moment = NEVER
    """When the client left, or the response was complete: the server says `http.disconnect`."""
    cancelled: Moment = NEVER
    """When the server cancelled the request."""
    cancelling: int = 0
    """How often the task of the request was cancelled, when a cancellation left the middleware."""
    lingered: bool = False
    """Whether the app came to its own end after its last message."""
    app_ended: Moment = NEVER
    app_error: BaseException | None = None
    """What left the app."""
    raised: BaseException | None = None
    """What the app raised of its own."""
    error: BaseException | None = None
    """What left the middleware."""
    over: Moment = NEVER
    """When the middleware returned."""

    @property
    def bodies(self) -> Iterator[Write]:
        """The writes that are part of the body, but for comments."""
        return (write for write in self.writes if write.is_body and not write.is_comment)

    @property
    def delivered(self) -> bytes:
        """The bytes that the server took, but for comments."""
        return b"".join([write.body for write in self.bodies if write.taken])

    @property
    def chunks(self) -> list[Call]:
        """The calls that had bytes for the body, in their order."""
        return [call for call in self.calls if call.body]

    @property
    def completed(self) -> Moment:
        """When the server took the last message, for all that the app's side can know."""
        return next((w.ended for w in self.writes if w.is_last and w.error is None), NEVER)

    @property
    def closed_at(self) -> float | None:
        """When the stream was closed before its end."""
        (report,) = self.reports
        return None if report.cancel_latency is None else self.over.time - report.cancel_latency

    def call(self, kind: str) -> Call | None:
        """The first call of this kind."""
        return next((call for call in self.calls if call.kind == kind), None)
