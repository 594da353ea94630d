"""How a stream ended: the argument of `on_close`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, Self

from .reasons import CancelReason

Outcome = Literal["completed", "incomplete", "failed"]


@dataclass(frozen=True, slots=True, repr=False)
class StreamReport:
    """How one stream ended. Durations are seconds, sizes are bytes.

    `repr` shows how long `recorded` is, and not what is in it: a log of reports has no answers of
    the model in it. `dataclasses.asdict`, `copy` and `pickle` take the whole report.

    *Not guaranteed*: that the client has read the bytes that count as sent. A write counts as
    delivered when the server's `send` has returned, and servers buffer some megabytes for a client
    that does not read.
    """

    stream_id: str
    """`Stream.id` of the request: 32 hexadecimal digits."""
    outcome: Outcome
    """`completed`: the app's last message was delivered. `incomplete`: the client left, a write
    failed or stalled, or the server cancelled the request. `failed`: the app raised, broke the
    protocol, or returned without a last message."""
    reason: CancelReason | None
    """The reason of an early end; None if there was none."""
    error: BaseException | None
    """The exception of the write that failed, or else of the app; None if there was none.

    `dataclasses.asdict` and `pickle` copy the exception as its class allows. Some classes of other
    packages allow no copy: `dataclasses.replace(report, error=None)` makes a report without it."""
    chunks: int
    """Chunks (bodies of the app's messages) that the middleware accepted. Empty chunks and files
    (zerocopysend, pathsend) do not count."""
    bytes_in: int
    """Bytes of these chunks."""
    writes: int
    """Body messages that the server accepted, with keep-alive comments."""
    bytes_sent: int
    """Bytes of these writes, with keep-alive comments, after merging. A client that stalled on
    hypercorn or gunicorn may have got the write that was in flight as well, up to 90,000 bytes."""
    bytes_undelivered: int
    """Bytes of the chunks that the server did not accept."""
    time_to_first_chunk: float | None
    """From the start of the request to the app's first chunk; None if there was none."""
    duration: float
    """From the start of the request until the app and the last write have ended."""
    longest_delay: float
    """The longest time that a chunk waited in the buffer before its write began."""
    cancel_latency: float | None
    """From the cause of an early end (`reason`) to the end of the request; None if there was no
    early end."""
    recorded: bytes
    """The first `record_bytes` bytes that the app produced, delivered or not."""
    recorded_all: bool
    """True if `recorded` has every byte that the app produced."""

    def __repr__(self) -> str:
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        shown = (
            f"{name}=<{len(value)} bytes>" if name == "recorded" else f"{name}={value!r}"
            for name, value in values
        )
        return f"{type(self).__name__}({', '.join(shown)})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self  # nothing in a report changes, and not every exception can be copied
