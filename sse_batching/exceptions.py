"""What the package raises, split by whose fault it is.

All of them mean that the stream is over; none of them leaves a stream half usable.
"""

from __future__ import annotations

from .reasons import CancelReason


class SSEBatchingError(Exception):
    """Base of all exceptions that the package raises on its own account."""


class StreamCancelled(SSEBatchingError):
    """Raised by `CancellationToken.raise_if_cancelled` in the code that does the work.

    Nobody's fault: somebody asked the work to stop. ``__cause__`` is what a failing write
    raised, where there was one.

    A request that ends with this exception because its client is gone makes no traceback in the
    server's log.
    """

    def __init__(self, message: str, reason: CancelReason) -> None:
        super().__init__(message)
        self.reason = reason


class ClientDisconnected(SSEBatchingError, OSError):
    """Raised by the `send` of an app whose client can no longer be reached.

    The peer's fault, not the app's. It is an `OSError`, because that is what ASGI (HTTP spec 2.4)
    lets a server raise there, and what frameworks already catch. ``__cause__`` is what the failing
    write raised; there is none if the client was seen to leave or to stall.
    """

    def __init__(self, message: str, reason: CancelReason) -> None:
        super().__init__(message)
        self.reason = reason
