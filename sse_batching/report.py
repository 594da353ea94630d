"""What became of a stream: handed to `on_close`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .reasons import CancelReason

Outcome = Literal["completed", "incomplete", "failed"]


@dataclass(frozen=True, slots=True)
class StreamReport:
    """What became of one stream. Durations are seconds, sizes are bytes.

    *Not guaranteed*: that the client has read what counts as sent. A write counts as delivered
    when the server took it, and servers buffer some megabytes for a client that does not read.
    """

    stream_id: str
    """`Stream.id` of the request: 32 hexadecimal digits."""
    outcome: Outcome
    """`completed`: the app's last message was delivered. `incomplete`: the client left, a write
    failed or stalled, or the server cancelled the request. `failed`: the app raised, broke the
    protocol, or returned without a last message."""
    reason: CancelReason | None
    """Why the stream was closed; None if it ran to its own end."""
    error: BaseException | None
    """What the failing write, or else the app, raised."""
    chunks: int
    """Body messages of the app that were accepted, but for empty ones."""
    bytes_in: int
    """Bytes in them."""
    writes: int
    """Body messages that the server accepted."""
    bytes_sent: int
    """Bytes in them: keep-alive comments included, and after merging."""
    bytes_undelivered: int
    """Bytes that the app sent and the server did not take."""
    time_to_first_chunk: float | None
    """From the start of the request to the app's first chunk; None if there was none."""
    duration: float
    """From the start of the request to the end of the app."""
    longest_delay: float
    """The longest time that a byte waited before its write began."""
    cancel_latency: float | None
    """From the moment the stream was closed to the end of the app; None if it was not closed."""
    recorded: bytes
    """The first `record_bytes` bytes that the app produced, delivered or not."""
    recorded_all: bool
    """Whether `recorded` is all that the app produced."""
