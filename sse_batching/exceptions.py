"""The exceptions of the package, by whose fault they are.

Each of them means that the stream has ended. None of them leaves a stream half usable.
"""

from __future__ import annotations

from .reasons import CancelReason


class SSEBatchingError(Exception):
    """The base of the package's exceptions."""


class StreamCancelled(SSEBatchingError):
    """Raised by `CancellationToken.raise_if_cancelled` in the code that does the work.

    Nobody is at fault: the work was asked to stop. `__cause__` is the exception of the write that
    failed, if one failed.

    A request that ends with this exception after its client has left makes no traceback in the
    server's log.
    """

    def __init__(self, message: str, reason: CancelReason) -> None:
        super().__init__(message)
        self.reason = reason


class ClientDisconnected(SSEBatchingError, OSError):
    """Raised by the `send` of an app whose client can no longer be reached.

    The client is at fault, not the app. A subclass of `OSError`, because ASGI (HTTP spec 2.4) lets
    a server raise an `OSError` there, and frameworks already catch it. `__cause__` is the exception
    of the write that failed; None if the client left or stalled.
    """

    def __init__(self, message: str, reason: CancelReason) -> None:
        super().__init__(message)
        self.reason = reason
