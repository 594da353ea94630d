"""The same request again and again, with a client that leaves one message later each time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import count
from typing import Any

from .._types import ASGIApp
from ._conversation import Conversation


async def leave_at_every_point(
    app: ASGIApp, *, raise_app_exceptions: bool = True, **request: Any
) -> AsyncGenerator[Conversation, None]:
    """Call the app again and again, with a client that leaves one message later each time.

        async for talk in leave_at_every_point(app, path="/answer"):
            assert not agent.running

    The first client leaves as soon as the app is called, the second when the server has taken one
    message of the response, and so on. The last client stays until the response is complete. Each
    conversation has ended when it is yielded, and only the last has `talk.completed`.

    *Not guaranteed*: that the loop ends. A response that never ends is requested without end.

    Args:
        app: the ASGI app, with the middleware or without.
        raise_app_exceptions: raise the app's exceptions. False: leave them in `talk.error`.
        request: the arguments of `Conversation`, without `after`.

    Raises `TimeoutError` if the app has not ended 10 seconds after its client left, on the clock of
    the event loop. A note on each exception says after how many messages that was.
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
