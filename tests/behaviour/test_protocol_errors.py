"""Messages that the server rejects: the app sees the exception that the server raised (F2)."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from sse_batching import (
    CancelReason,
    SSEBatchingMiddleware,
    StreamReport,
    current_stream,
    current_token,
)
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import Emit, chunk, last, sending, start, streaming
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

TOO_LONG = "Response content longer than Content-Length"


class Strict:
    """Checks messages as uvicorn does, and raises the same errors."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self._left = 3

    async def __call__(self, index: int, message: Message) -> None:
        if (message["type"] == "http.response.start") != (index == 0):
            self._refuse(RuntimeError(f"Unexpected ASGI message '{message['type']}'"))
        body = message.get("body", b"")
        if not isinstance(body, bytes):
            self._refuse(TypeError(f"a bytes-like object is required, not {type(body).__name__!r}"))
        self._left -= len(body)
        if self._left < 0:
            self._refuse(RuntimeError(TOO_LONG))

    def _refuse(self, error: Exception) -> None:
        self.errors.append(error)
        raise error


@pytest.mark.parametrize(
    "messages",
    [
        (start(), chunk(b"ab"), last(b"cd")),
        (start(), {"type": "http.response.body", "body": "text", "more_body": True}),
        (start(), chunk(b"a"), {"type": "http.response.body", "body": "text"}),
        (start(), chunk(b"a"), {"type": "http.response.body", "body": None, "more_body": True}),
        (start(), chunk(b"a"), start()),
        (start(b"text/plain"), chunk(b"abcd")),
        (start(b"text/plain"), start()),
        (chunk(b"a"),),
    ],
    ids=[
        "too-long",
        "str",
        "str-last",
        "none",
        "second-start",
        "not-a-stream-too-long",
        "not-a-stream-second-start",
        "no-start",
    ],
)
async def test_a_message_that_the_server_refuses_raises_what_the_server_raised(
    messages: tuple[Message, ...],
) -> None:
    """The app's `send` raises the same exception object, and so does the app."""
    server = Strict()
    async with Conversation(SSEBatchingMiddleware(sending(*messages)), on_send=server) as talk:
        await talk.ended()
    assert talk.error is not None
    assert [talk.error] == server.errors


async def test_what_a_flush_raises_is_what_the_server_raised() -> None:
    """A failed write belongs to the caller that waits for it: `flush` raises the server's error."""
    server = Strict()

    async def work(emit: Emit) -> None:
        await emit(b"abcd")
        await current_stream().flush()

    async with Conversation(SSEBatchingMiddleware(streaming(work)), on_send=server) as talk:
        await talk.ended()
    assert [talk.error] == server.errors


async def test_an_app_error_found_in_the_background_is_raised_by_the_next_send() -> None:
    """Nobody waited for the write, so the token is cancelled, and each `send` raises the error."""
    server = Strict()
    told: list[tuple[CancelReason | None, BaseException | None]] = []
    raised: list[BaseException] = []
    reports: list[StreamReport] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_stream().token
        token.register(lambda: told.append((token.reason, token.error)))
        await send(start())
        await send(chunk(b"abcd"))
        await advance(1)
        assert len(told) == 1
        for _ in range(2):
            with pytest.raises(RuntimeError, match=TOO_LONG) as caught:
                await send(chunk(b"e"))
            raised.append(caught.value)
        raise raised[0]

    async with Conversation(
        SSEBatchingMiddleware(app, on_close=reports.append), on_send=server
    ) as talk:
        await talk.ended()
    (error,) = server.errors
    assert told == [(CancelReason.SEND_FAILED, error)]
    assert raised == [error, error]
    assert talk.error is error
    assert [(report.outcome, report.error) for report in reports] == [("failed", error)]


async def generate() -> Any:
    yield b"abcd"
    await advance(1)
    yield b"e"
    await advance(1)
    yield b"f"


async def test_an_app_error_found_in_the_background_comes_out_of_starlette() -> None:
    """A framework that waits for a disconnect does not mistake the error for one."""
    server = Strict()
    response = StreamingResponse(
        generate(), media_type="text/event-stream", headers={"content-length": "3"}
    )
    async with Conversation(SSEBatchingMiddleware(response), on_send=server) as talk:
        await talk.ended()
    assert [talk.error] == server.errors


async def test_an_app_error_that_nobody_waits_for_any_more_is_raised_by_the_next_send() -> None:
    """The app cancelled its flush before the server rejected the flushed batch."""
    server = Strict()

    async def slow(index: int, message: Message) -> None:
        await advance(0.5 if index else 0)
        await server(index, message)

    async def work(emit: Emit) -> None:
        await emit(b"abcd")
        with anyio.move_on_after(0.25):
            await current_stream().flush()
        await advance(1)
        await emit(b"e")

    async with Conversation(SSEBatchingMiddleware(streaming(work)), on_send=slow) as talk:
        await talk.ended()
    assert len(server.errors) == 1
    assert [talk.error] == server.errors


@pytest.mark.parametrize("pause", [0, 3], ids=["at-once", "later"])
@pytest.mark.parametrize("asks", [False, True], ids=["", "token"])
async def test_an_app_error_comes_out_of_an_app_that_sends_no_more(
    asks: bool, pause: float
) -> None:
    """The server's error about the app is raised also if the app ended before the error was found
    or could be raised in a `send`."""
    server = Strict()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if asks:
            current_token()
        await send(start())
        await send(chunk(b"abcd"))
        await advance(pause)

    async with Conversation(SSEBatchingMiddleware(app), on_send=server) as talk:
        await talk.ended()
    assert len(server.errors) == 1
    assert [talk.error] == server.errors


async def test_an_app_error_comes_out_of_an_app_that_had_to_be_cancelled() -> None:
    """The cancellation of an app that waits for something else does not hide the error."""
    server = Strict()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        current_token()
        await send(start())
        await send(chunk(b"abcd"))
        await anyio.sleep_forever()

    async with Conversation(SSEBatchingMiddleware(app, grace_period=1), on_send=server) as talk:
        await talk.ended()
    assert len(server.errors) == 1
    assert [talk.error] == server.errors
