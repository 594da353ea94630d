"""The exceptions of the package. Each one says who ended the stream.

After any of these exceptions the stream has ended: no `send` succeeds any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .reasons import CancelReason


class SSEBatchingError(Exception):
    """The base of the package's exceptions.

    A copied or pickled exception keeps its message, its attributes and its notes. As with every
    exception of Python, `__cause__`, `__context__` and `__traceback__` stay behind.
    """

    def __reduce__(self) -> tuple[Callable[..., SSEBatchingError], tuple[Any, ...], dict[str, Any]]:
        # Python would call the class with `args`, which has the message alone: `__init__` also
        # wants the reason, and the `__init__` of a subclass may want something else.
        return _restore, (type(self), self.args), vars(self)


def _restore(kind: type[SSEBatchingError], args: tuple[object, ...]) -> SSEBatchingError:
    """Return a new exception of this class without calling `__init__`."""
    error = kind.__new__(kind)
    error.args = args
    return error


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
    """Raised by the `send` of an app, and by `Stream.flush`, after the stream has ended early.

    The app is not at fault: the client left or stalled, a write failed, or the server cancelled the
    request. `reason` says which. A subclass of `OSError`, because ASGI (HTTP spec 2.4) lets a
    server raise an `OSError` in `send`, and frameworks already catch that. `__cause__` is the
    exception of the write that failed; None if no write failed.
    """

    def __init__(self, message: str, reason: CancelReason) -> None:
        super().__init__(message)
        self.reason = reason
