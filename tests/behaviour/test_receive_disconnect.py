"""What `receive` returns when the client has left, or the server fails or never stops (F3, F4)."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sse_batching import CancelReason, SSEBatchingMiddleware, current_token
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import chunk, converse, last, start
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

GONE = {"type": "http.disconnect"}


async def read(receive: Receive, into: list[Message] | None = None) -> None:
    message = await receive()
    while message != GONE:
        message = await receive()
    if into is not None:
        into.append(message)


@pytest.mark.parametrize("repeat", [True, False], ids=["repeating", "once"])
@pytest.mark.parametrize("streams", [True, False], ids=["stream", "no-stream"])
@pytest.mark.parametrize("asks", [False, True], ids=["", "token"])
async def test_every_call_after_the_disconnect_is_told(
    asks: bool, streams: bool, repeat: bool
) -> None:
    """Every later call of any task returns the disconnect, also if the server says it only once.
    Pitfall 5."""
    told: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if asks:
            current_token()
        if streams:
            await send(start())
        assert (await receive())["type"] == "http.request"
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(read, receive, told)
        told.extend([await receive() for _ in range(3)])

    middleware = SSEBatchingMiddleware(app, grace_period=1)
    async with Conversation(middleware, repeat_disconnect=repeat) as talk:
        await advance(1)
        talk.leave()
        await talk.ended()
    assert told == [GONE] * 6
    assert talk.error is None


async def test_what_was_uploaded_before_the_client_left_is_read_before_the_end() -> None:
    """The disconnect does not overtake the parts that came before it."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await advance(2)
        while (message := await receive()) != GONE:
            seen.append(message["body"])
        seen.append(None)

    async with Conversation(SSEBatchingMiddleware(app), body=[b"1", b"2", b"3"]) as talk:
        await advance(1)
        talk.leave()
        await talk.ended()
    assert seen == [b"1", b"2", b"3", None]


async def test_after_the_response_the_app_sees_what_the_server_says() -> None:
    """Every server says `http.disconnect` after the response. The app sees it, and no token is
    cancelled."""
    told: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        await send(start())
        await receive()
        await send(last())
        told.extend([await receive(), await receive()])
        assert not token.cancelled

    await converse(SSEBatchingMiddleware(app), repeat_disconnect=False)
    assert told == [GONE, GONE]


async def test_a_call_that_began_before_anybody_watched_is_watched_too() -> None:
    """The app may be waiting in the server's `receive` when it asks for the token. Its call then
    reads for the watch as well."""
    told: list[CancelReason | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, receive)
            await advance(1)
            token = current_token()
            await token.wait_async()
            told.append(token.reason)

    async with Conversation(SSEBatchingMiddleware(app, grace_period=0)) as talk:
        await advance(2)
        talk.leave()
        await talk.ended()
    assert told == [CancelReason.CLIENT_DISCONNECTED]


async def test_when_a_call_of_the_app_is_given_up_the_watch_goes_on() -> None:
    """The token is cancelled also if the app has stopped waiting in `receive`."""
    reasons: list[CancelReason | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, receive)
            await advance(1)
            token = current_token()
            tasks.cancel_scope.cancel()
        await token.wait_async()
        reasons.append(token.reason)

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await advance(2)
        talk.leave()
        await talk.ended()
    assert reasons == [CancelReason.CLIENT_DISCONNECTED]


class Failing:
    """A server whose `receive` fails after the first message."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.error = RuntimeError("the server's own trouble")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        calls = 0

        async def fail() -> Message:
            nonlocal calls
            calls += 1
            if calls > 1:
                raise self.error
            return await receive()

        await self._app(scope, fail, send)


@pytest.mark.parametrize("streams", [True, False], ids=["stream", "no-stream"])
async def test_what_receive_raises_is_raised_in_the_app_s_receive(streams: bool) -> None:
    """The error comes after the messages before it, in every later call, and does not end the
    response."""
    raised: list[BaseException] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        if streams:
            await send(start())
            await advance(1)
        assert (await receive())["type"] == "http.request"
        for _ in range(2):
            with pytest.raises(RuntimeError) as caught:
                await receive()
            raised.append(caught.value)
        if not streams:
            await send(start(b"text/plain"))
        await send(last(b"fine"))
        assert not token.cancelled

    server = Failing(SSEBatchingMiddleware(app))
    talk = await converse(server)
    assert raised == [server.error] * 2
    assert talk.body == b"fine"


async def test_a_server_that_repeats_an_empty_message_is_not_read_endlessly() -> None:
    """Some never stop to say that the body is empty: neither memory nor time is spent on it.
    Pitfall 6."""
    calls = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        current_token()
        await send(start())
        for _ in range(5):
            await send(chunk(b"data: 1\n\n"))
            await advance(1)
        await send(last())

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        async def repeat() -> Message:
            nonlocal calls
            calls += 1
            return {"type": "http.request", "body": b"", "more_body": False}

        await SSEBatchingMiddleware(app)(scope, repeat, send)

    talk = await converse(server)
    assert talk.completed
    assert calls < 1000


async def test_a_disconnect_that_is_repeated_endlessly_is_read_once() -> None:
    """Nobody here asks the server again, however long the app goes on and however often it asks.
    Pitfall 4."""
    said: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        await receive()
        await send(start())
        await token.wait_async()
        for _ in range(100):
            assert await receive() == GONE
        await advance(10)

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        async def counted() -> Message:
            said.append(await receive())
            return said[-1]

        await SSEBatchingMiddleware(app, grace_period=1)(scope, counted, send)

    async with Conversation(around) as talk:
        await advance(1)
        talk.leave()
        await talk.ended()
    assert talk.error is None
    assert said.count(GONE) == 1
