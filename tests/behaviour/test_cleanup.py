"""Unusual events while the middleware cleans up after its app, or after that."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Receive, Scope, Send

from sse_batching import (
    CancellationToken,
    CancelReason,
    ClientDisconnected,
    SSEBatchingMiddleware,
    StreamReport,
    current_token,
)
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_ASYNCIO, VIRTUAL_TIME, loops
from tests.support.apps import chunk, last, start
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]


async def test_a_cancellation_during_the_last_flush_reaches_token_and_report() -> None:
    """The server may shut down while the middleware writes what is buffered to a slow client, after
    the app has returned."""
    reports: list[StreamReport] = []
    tokens: list[CancellationToken] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        tokens.append(current_token())
        await send(start())
        await send(chunk(b"a"))
        await advance(1)
        talk.stall()
        await send(chunk(b"b"))

    async with Conversation(SSEBatchingMiddleware(app, on_close=reports.append)) as talk:
        await advance(2)
        talk.cancel()
        await talk.ended()
    assert [token.reason for token in tokens] == [CancelReason.SERVER_SHUTDOWN]
    assert [report.outcome for report in reports] == ["incomplete"]


async def test_a_second_start_after_the_disconnect_is_rejected() -> None:
    """Once the client has left, any message is rejected, also a start. Pitfall 66."""
    rejected: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await current_token().wait_async()
        for message in (start(), start(b"text/plain"), last(b"the rest")):
            try:
                await send(message)
            except ClientDisconnected:
                rejected.append(message["type"])

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await talk.until(lambda: talk.sent)
        talk.leave()
        await talk.ended()
    assert len(rejected) == 3


@loops(VIRTUAL_ASYNCIO, because="Task.cancel is asyncio's")
async def test_a_send_raises_if_the_task_that_writes_is_cancelled() -> None:
    """`send` raises if the writer's task is cancelled from outside. `asyncio.run` cancels all tasks
    when it ends."""
    reasons: list[CancelReason] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        talk.stall()
        app_task = asyncio.current_task()
        own_tasks = asyncio.all_tasks() - others - {app_task}
        for task in own_tasks:
            asyncio.get_running_loop().call_later(1, task.cancel)
        try:
            await send(chunk(b"x" * 100_000))
            await send(last())
        except ClientDisconnected as error:
            reasons.append(error.reason)

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        others = asyncio.all_tasks()
        await talk.ended()
    assert reasons == [CancelReason.SERVER_SHUTDOWN]


async def test_an_exception_of_the_app_keeps_its_traceback() -> None:
    """The traceback of the app's exception stays complete, though a `send` was rejected while the
    app handled that exception."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await current_token().wait_async()
        try:
            raise ValueError("an error of the app")  # noqa: TRY301
        except ValueError:
            with pytest.raises(ClientDisconnected):
                await send(chunk(b"data: sorry\n\n"))
            raise

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await talk.until(lambda: talk.sent)
        talk.leave()
        await talk.ended()
    assert talk.error is not None
    frames = []
    traceback = talk.error.__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame.f_code.co_qualname)
        traceback = traceback.tb_next
    assert any(frame.endswith("app") for frame in frames)


@loops(VIRTUAL_ASYNCIO, because="trio starts tasks in any order")
async def test_a_start_and_chunks_may_be_sent_concurrently() -> None:
    """Concurrent sends keep the order of their calls, also if one of them sends the start."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.gather(send(start()), send(chunk(b"a")), send(chunk(b"b")))
        await send(last())

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await talk.ended()
    assert talk.sent[0].message["type"] == "http.response.start"
    assert talk.body == b"ab"
