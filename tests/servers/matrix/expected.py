"""The expected text of each cell of the tables.

A cell in which a disconnect goes unnoticed is a fact about that server. The run fails when the
server has changed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from sse_batching import CancelReason
from tests.servers.matrix.kinds import Kind
from tests.servers.matrix.phases import Phase
from tests.servers.matrix.ways import HALF_CLOSE, RST_STREAM, Way

WORDS: Final = {
    CancelReason.CLIENT_DISCONNECTED: "left",
    CancelReason.SEND_FAILED: "failed",
    CancelReason.SEND_TIMEOUT: "stalled",
    CancelReason.SERVER_SHUTDOWN: "shutdown",
}
NOTHING: Final = "—"
AT_NEXT_WRITE: Final = "at the next write"
LEFT_OR_FAILED: Final = "left or failed"
AT_THE_END: Final = "stalled, at the last write"


def left(kind: Kind, way: Way, phase: Phase) -> str:
    """Return the cell for a client that leaves."""
    if phase is Phase.AFTER_END:
        return NOTHING
    if phase is Phase.FINAL_WRITE:
        return _left_during_the_last_write(kind, way)
    return AT_NEXT_WRITE if kind.server == "pyvoy" else WORDS[CancelReason.CLIENT_DISCONNECTED]


def _left_during_the_last_write(kind: Kind, way: Way) -> str:
    """Return the cell for a client that leaves while the server is busy with what came before.

    On most servers the write returns when the client is gone, as if the client had read it.
    """
    if kind.server == "hypercorn" and kind.http2:  # the write never returns
        return WORDS[CancelReason.CLIENT_DISCONNECTED]
    if kind.server == "anycorn" and kind.http2 and way is not RST_STREAM:
        return WORDS[CancelReason.CLIENT_DISCONNECTED]
    if str(kind) == "gunicorn asgi, HTTP/1.1" and way is not HALF_CLOSE:
        return WORDS[CancelReason.CLIENT_DISCONNECTED]
    if str(kind) in ("gunicorn asgi, HTTP/2", "pyvoy HTTP/1.1", "tremolo"):
        return WORDS[CancelReason.SEND_FAILED]
    return NOTHING


def stalled(kind: Kind, phase: Phase) -> str:
    """Return the cell for a client that reads nothing of the 8 MB that the app sends."""
    if phase is Phase.AFTER_END or str(kind) in ("daphne", "pyvoy HTTP/2"):
        return NOTHING
    if kind.server == "hypercorn" and kind.http2 and phase is not Phase.FINAL_WRITE:
        return AT_THE_END
    return WORDS[CancelReason.SEND_TIMEOUT]


def pipelined(kind: Kind) -> str:
    """Return the cell for a client that has pipelined its next request, and leaves."""
    if kind.options == "httptools, asyncio":
        return NOTHING
    # gunicorn's worker runs uvicorn with httptools on uvloop.
    if kind.options in ("httptools, uvloop", "uvicorn worker") or kind.server == "pyvoy":
        return WORDS[CancelReason.SEND_FAILED]
    return WORDS[CancelReason.CLIENT_DISCONNECTED]


def never_awaits(kind: Kind) -> str:
    """Return the cell for a client that leaves an app that awaits nothing but `send`."""
    if str(kind) == "gunicorn asgi, HTTP/2":
        return LEFT_OR_FAILED
    if kind.server == "pyvoy":
        return WORDS[CancelReason.SEND_FAILED]
    return WORDS[CancelReason.CLIENT_DISCONNECTED]


class Shutdown(StrEnum):
    """What happens to an open stream when its server gets SIGTERM."""

    CANCELLED = "shutdown"
    NOT_REPORTED = "shutdown, without `on_close`"
    WAITED_FOR = "— (waits for the stream)"
    KILLED = "— (killed)"


def shut_down(kind: Kind, *, limited: bool) -> Shutdown:
    """Return the cell for a server that gets SIGTERM.

    `limited`: the server was started with the option that bounds its shutdown.
    """
    if kind.server == "pyvoy":
        return Shutdown.KILLED
    if kind.server in ("granian", "gunicorn"):
        return Shutdown.KILLED if limited else Shutdown.WAITED_FOR
    if kind.server == "uvicorn":
        return Shutdown.NOT_REPORTED if limited else Shutdown.WAITED_FOR
    return Shutdown.CANCELLED


def allowed_after_waiting(kind: Kind) -> list[list[CancelReason]]:
    """Return the cancellations allowed for a client that leaves while the server waits for it."""
    left = [CancelReason.CLIENT_DISCONNECTED]
    # granian stops its event loop with the last connection: the disconnect may come too late.
    return [[], left] if kind.server == "granian" else [left]
