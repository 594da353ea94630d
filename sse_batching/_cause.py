"""Why a request ends early, and what an exception of the server's `send` means."""

from __future__ import annotations

from typing import Final, NamedTuple

import anyio

from .reasons import CancelReason


class Cause(NamedTuple):
    """The reason, message and error of an early end."""

    reason: CancelReason
    message: str
    """For people: the token's message and the log line."""
    error: BaseException | None = None
    """What the server's `send` raised."""
    is_app_error: bool = False
    """True if the server's `send` raised because of the app's message. The client has not left."""


CLIENT_LEFT: Final = Cause(CancelReason.CLIENT_DISCONNECTED, "SSE client disconnected")
WRITE_STALLED: Final = Cause(CancelReason.SEND_TIMEOUT, "SSE client does not read any more")
SERVER_CANCELLED: Final = Cause(CancelReason.SERVER_SHUTDOWN, "request cancelled by the server")


def of_failed_write(error: BaseException, *, cancelled: bool = True) -> Cause:
    """Return the cause that an exception of the server's `send` stands for.

    `cancelled`: False if nobody has cancelled the task that writes. A cancellation then comes from
    within the server's `send`, for example from a future that the server has cancelled.
    """
    if is_disconnect(error):
        return Cause(CancelReason.SEND_FAILED, CLIENT_LEFT.message, error)
    if isinstance(error, Exception):
        return Cause(CancelReason.SEND_FAILED, "SSE write failed", error, is_app_error=True)
    if cancelled or isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        return SERVER_CANCELLED._replace(error=error)  # all tasks of the event loop end
    return Cause(CancelReason.SEND_FAILED, "SSE write failed", error)


def is_disconnect(error: BaseException) -> bool:
    """Return True if a write that raised this exception found the client gone.

    Any other exception is the server's answer to an error of the app's: too many bytes for the
    Content-Length, a message out of order.
    """
    if isinstance(error, OSError | anyio.BrokenResourceError | anyio.ClosedResourceError):
        return True
    # uvloop, writing to a closed transport (uvicorn with a pipelined second request).
    return isinstance(error, RuntimeError) and "the handler is closed" in str(error)
