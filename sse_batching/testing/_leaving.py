"""The same request again and again, its client leaving a little later each time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import count
from typing import Any

from .._types import ASGIApp
from ._conversation import Conversation


async def leave_at_every_point(
    app: ASGIApp, *, raise_app_exceptions: bool = True, **request: Any
) -> AsyncGenerator[Conversation, None]:
    """Ask the app again and again, the client leaving a message later each time.

        async for talk in leave_at_every_point(app, path="/answer"):
            assert not agent.running

    The first client leaves as soon as the app is called, the second when the server has taken one
    message, and so on, until the response is completed without anyone leaving: so an app that goes
    on for ever has no end here either. What is yielded has ended; `talk.completed` is true for the
    last one.

    Args:
        app: the ASGI app, with the middleware or without.
        raise_app_exceptions: raise what the app raises; else it is in `talk.error`.
        request: what `Conversation` takes, but for `after`.

    Raises `TimeoutError`, naming the point, if the app has not ended 10 seconds after its client
    left, on the clock of the event loop.
    """
    for point in count():
        talk = Conversation(app, after={point: Conversation.leave}, **request)
        try:
            async with talk:
                await talk.ended()
        except Exception as error:
            error.add_note(_note(point))
            raise
        if raise_app_exceptions and talk.error is not None:
            talk.error.add_note(_note(point))
            raise talk.error
        yield talk
        if talk.completed:
            return


def _note(point: int) -> str:
    return f"The client left after {point} message(s) of the response."
