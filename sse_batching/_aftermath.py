"""What is done about the exceptions that a disconnect sets off in the app."""

from __future__ import annotations

from typing import Final

import anyio
from starlette.requests import ClientDisconnect

from .exceptions import ClientDisconnected, StreamCancelled

CONSEQUENCES: Final = (
    ClientDisconnected,
    StreamCancelled,
    ClientDisconnect,
    # One half of the app writes to another that is gone (FastAPI's EventSourceResponse).
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
)


def follows_disconnect(error: BaseException) -> bool:
    """Whether the app raised this because its client is gone.

    Then it is no news to the server, and no traceback for its log. What an app raises on its own
    account while it winds up is none of that.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(follows_disconnect(part) for part in error.exceptions)
    if isinstance(error, CONSEQUENCES):
        return True
    return error.__cause__ is not None and follows_disconnect(error.__cause__)


def let_go_of_frames(error: BaseException) -> None:
    """Let go of the frames that an exception has come through, when it has done its work.

    They hold the app's generator: as long as they live it is suspended, not closed. And they live
    until a garbage collection, where some frame of a framework's refers to the exception (the one
    that anyio calls when a task of a group is done).
    """
    seen: list[BaseException] = []
    found: list[BaseException | None] = [error]
    while found:
        part = found.pop()
        if part is None or any(part is other for other in seen):  # they can go in circles
            continue
        part.__traceback__ = None
        seen.append(part)
        found += (part.__cause__, part.__context__)
        if isinstance(part, BaseExceptionGroup):
            found += part.exceptions
