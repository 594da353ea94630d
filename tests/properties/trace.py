"""The record of one request, as its app and its server saw it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from starlette.types import Message

from sse_batching import CancelReason, StreamReport

Outcome = Literal["returned", "rejected", "raised", "cancelled", "waiting"]


class Moment(NamedTuple):
    """A time in seconds since the start of the request, and a number that orders equal times."""

    time: float
    tick: int


NEVER = Moment(float("inf"), 1 << 60)


@dataclass(slots=True)
class Call:
    """A `send` or a `flush` called by the app."""

    kind: str
    body: bytes
    called: Moment
    alone: bool
    """Whether no other call was under way, so that this call does not have to queue."""
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
    """Whether the call returned. That counts as delivery: no server says if the client is there."""
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
    """A change of `max_delay` or `enabled` by `configure`."""

    kind: str
    value: float
    at: Moment


@dataclass(slots=True)
class Trace:
    """Everything that is recorded of one request."""

    calls: list[Call] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    tokens_asked: int = 0
    cancellations: list[tuple[Moment, CancelReason | None]] = field(default_factory=list)
    """The time and the reason of each call of a callback that is registered with the token."""
    reports: list[StreamReport] = field(default_factory=list)
    uploaded: list[Message] = field(default_factory=list)
    """The messages that the server's `receive` returned."""
    received: list[Message] = field(default_factory=list)
    """The messages that the app's `receive` returned."""
    readers: int = 0
    """The largest number of concurrent calls of the server's `receive`."""
    unread: int = 0
    """The most bytes of the request body that were read ahead of the app."""
    left: Moment = NEVER
    """The moment when the client left or the response was complete. From then on the server's
    `receive` returns `http.disconnect`."""
    cancelled: Moment = NEVER
    """The moment when the server cancelled the request."""
    cancelling: int = 0
    """`Task.cancelling()` of the request's task when a cancellation left the middleware."""
    lingered: bool = False
    """Whether the app ran to its end after its last message."""
    app_ended: Moment = NEVER
    app_error: BaseException | None = None
    """The exception that the app raised to the middleware."""
    raised: BaseException | None = None
    """The `AppError` that the schedule had the app raise."""
    error: BaseException | None = None
    """The exception that the middleware raised to the server."""
    ended: Moment = NEVER
    """The moment when the middleware returned or raised."""

    @property
    def bodies(self) -> Iterator[Write]:
        """The writes of the body, without keep-alive comments."""
        return (write for write in self.writes if write.is_body and not write.is_comment)

    @property
    def delivered(self) -> bytes:
        """The bytes that the server took, without keep-alive comments."""
        return b"".join([write.body for write in self.bodies if write.taken])

    @property
    def chunks(self) -> list[Call]:
        """The calls with bytes for the body, in order."""
        return [call for call in self.calls if call.body]

    @property
    def completed(self) -> Moment:
        """The moment when the server took the last message, as far as the middleware can know."""
        return next((w.ended for w in self.writes if w.is_last and w.error is None), NEVER)

    @property
    def closed_at(self) -> float | None:
        """The time at which the stream was closed before its end. None: it was not."""
        (report,) = self.reports
        return None if report.cancel_latency is None else self.ended.time - report.cancel_latency

    def call(self, kind: str) -> Call | None:
        """Return the first call of this kind."""
        return next((call for call in self.calls if call.kind == kind), None)
