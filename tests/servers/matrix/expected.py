"""What the cells of the tables say. Where that is not what one would like, it is a fact about a
server, and the run fails when the server has changed."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from sse_batching import CancelReason
from tests.servers.matrix.kinds import Kind
from tests.servers.matrix.phases import Phase
from tests.servers.matrix.ways import Way

WORDS: Final = {
    CancelReason.CLIENT_DISCONNECTED: "left",
    CancelReason.SEND_FAILED: "failed",
    CancelReason.SEND_TIMEOUT: "stalled",
    CancelReason.SERVER_SHUTDOWN: "shutdown",
}
NOTHING: Final = "—"
AT_THE_END: Final = "stalled, at the last write"


def left(kind: Kind, way: Way, phase: Phase) -> str:
    """A client leaves."""
    if phase is Phase.AFTER_END:
        return NOTHING
    if phase is Phase.FINAL_WRITE:
        # Elsewhere the write returns as soon as the client is gone, as if it had read all.
        never_returns = kind.server == "hypercorn" and kind.http2
        return WORDS[CancelReason.CLIENT_DISCONNECTED] if never_returns else NOTHING
    return WORDS[CancelReason.CLIENT_DISCONNECTED]


def stalled(kind: Kind, phase: Phase) -> str:
    """A client does not read, and the app sends 8 MB."""
    if phase is Phase.AFTER_END or kind.server == "daphne":
        return NOTHING
    if kind.server == "hypercorn" and kind.http2 and phase is not Phase.FINAL_WRITE:
        return AT_THE_END
    return WORDS[CancelReason.SEND_TIMEOUT]


def pipelined(kind: Kind) -> str:
    """A client leaves that has sent its next request already."""
    if kind.options == "httptools, asyncio":
        return NOTHING
    if kind.options == "httptools, uvloop":
        return WORDS[CancelReason.SEND_FAILED]
    return WORDS[CancelReason.CLIENT_DISCONNECTED]


def never_awaits(kind: Kind) -> str:
    """A client leaves an app that sends for ever, and never awaits anything else."""
    return WORDS[CancelReason.CLIENT_DISCONNECTED]


class Shutdown(StrEnum):
    """What becomes of an open stream when its server gets SIGTERM."""

    CANCELLED = "shutdown"
    WAITED_FOR = "— (waits for the stream)"
    KILLED = "— (killed)"


def shut_down(kind: Kind, *, limited: bool) -> Shutdown:
    """A server gets SIGTERM; `limited`: it was started with its option for that."""
    if kind.server == "granian":
        return Shutdown.KILLED if limited else Shutdown.WAITED_FOR
    if kind.server == "uvicorn" and not limited:
        return Shutdown.WAITED_FOR
    return Shutdown.CANCELLED


def after_the_wait(kind: Kind) -> list[list[CancelReason]]:
    """What a stream may be told whose client leaves while the server waits for it."""
    left = [CancelReason.CLIENT_DISCONNECTED]
    # granian ends its event loop as soon as there is no connection: it may come too late.
    return [[], left] if kind.server == "granian" else [left]
