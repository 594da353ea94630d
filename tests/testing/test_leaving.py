"""`leave_at_every_point` shows whether an app stops, wherever its client leaves."""

from __future__ import annotations

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware, current_token
from sse_batching.testing import leave_at_every_point
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import chunk, last, sending, start

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]


async def test_the_client_leaves_a_message_later_each_time() -> None:
    """The first client leaves before the first message, the last gets the whole response."""
    app = sending(start(), chunk(b"a"), last(b"b"))

    seen = [(talk.body, talk.completed) async for talk in leave_at_every_point(app)]

    assert seen == [(b"", False), (b"", False), (b"a", False), (b"ab", True)]


async def test_an_agent_that_stops_is_seen_to_stop() -> None:
    """An agent that waits for its token has stopped each time, wherever the client left."""
    works: list[bool] = []

    async def agent(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        works.append(True)
        try:
            await send(start())
            for _ in range(3):
                with anyio.move_on_after(1):
                    await token.wait_async()
                token.raise_if_cancelled()
                await send(chunk(b"word "))
            await send(last())
        finally:
            works.pop()

    completed = [
        (talk.completed, len(works))
        async for talk in leave_at_every_point(SSEBatchingMiddleware(agent))
    ]

    assert completed == [(False, 0)] * 4 + [(True, 0)]


async def test_an_app_that_goes_on_is_reported_with_the_point() -> None:
    """The `TimeoutError` has a note that says after how many messages the client left."""

    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(chunk(b"a"))
        if (await receive())["type"] == "http.request":
            await receive()
        await anyio.sleep_forever()

    with pytest.raises(TimeoutError) as raised:
        async for _ in leave_at_every_point(stubborn):
            pass

    assert raised.value.__notes__ == ["The client left after 0 message(s) of the response."]


async def test_what_the_app_raises_is_raised_with_the_point() -> None:
    """An error in the cleanup of an agent is raised, with a note."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(start())
        if (await receive())["type"] == "http.disconnect":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as raised:
        async for _ in leave_at_every_point(app):
            pass

    assert raised.value.__notes__ == ["The client left after 0 message(s) of the response."]


async def test_what_the_app_raises_may_be_kept_instead() -> None:
    """With `raise_app_exceptions=False` each error stays in its conversation."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        raise ZeroDivisionError

    points = leave_at_every_point(app, raise_app_exceptions=False)
    errors = [type((await anext(points)).error) for _ in range(3)]
    await points.aclose()

    assert errors == [ZeroDivisionError] * 3
