"""How a stream ended: the argument of `on_close`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .reasons import CancelReason

Outcome = Literal["completed", "incomplete", "failed"]


@dataclass(frozen=True, slots=True)
class StreamReport:
    """How one stream ended. Durations are seconds, sizes are bytes.

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
    """The exception of the write that failed, or else of the app; None if there was none."""
    chunks: int
    """Chunks (bodies of the app's messages) that the middleware accepted. An empty chunk counts
    only if it is the first of the response."""
    bytes_in: int
    """Bytes of these chunks."""
    writes: int
    """Body messages that the server accepted, with keep-alive comments."""
    bytes_sent: int
    """Bytes of these writes, with keep-alive comments, after merging."""
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
