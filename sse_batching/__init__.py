"""ASGI middleware that sends streamed events in batches, and tells the work to stop when nobody
listens."""

from __future__ import annotations

from ._stream import Stream, current_stream, current_token, get_token, observe_token
from .cancellation import CancellationToken, Registration
from .exceptions import ClientDisconnected, SSEBatchingError, StreamCancelled
from .middleware import SSEBatchingMiddleware
from .reasons import CancelReason
from .report import StreamReport

__all__ = [
    "CancelReason",
    "CancellationToken",
    "ClientDisconnected",
    "Registration",
    "SSEBatchingError",
    "SSEBatchingMiddleware",
    "Stream",
    "StreamCancelled",
    "StreamReport",
    "current_stream",
    "current_token",
    "get_token",
    "observe_token",
]

__version__ = "0.1.0"
