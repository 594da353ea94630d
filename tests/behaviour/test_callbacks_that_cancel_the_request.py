"""`token.register(task.cancel)` with the task of the request itself, as many apps do."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware, current_token
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_ASYNCIO, loops
from tests.support.apps import chunk, start
from tests.support.endings import AsTask
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_ASYNCIO, because="Task.cancel is asyncio's")]


@pytest.mark.parametrize("streams", [True, False])
async def test_a_callback_may_cancel_the_task_of_the_request(streams: bool) -> None:
    """A cancellation that a callback requested does not leave the middleware, so the server has no
    error to log."""
    cancelled: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        current_token().register(task.cancel)
        if streams:
            await send(start())
        try:
            await anyio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    server = AsTask(SSEBatchingMiddleware(app))
    async with Conversation(server) as talk:
        await advance(1)
        talk.leave()
        await talk.ended()
    assert cancelled == [True]
    assert not server.task.cancelled()
    assert server.task.exception() is None
    assert server.task.cancelling() == 0


async def test_a_callback_may_cancel_the_task_as_the_app_returns() -> None:
    """A cancellation that comes in the last `send` of an app does not reach the server, though the
    app awaits nothing after that `send`."""
    after: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        current_token().register(task.cancel)
        await send(start(b"text/plain"))
        talk.fail_writes(ConnectionResetError())
        with suppress(OSError):
            await send(chunk(b"a"))

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        await SSEBatchingMiddleware(app)(scope, receive, send)
        await advance(1)
        after.append("went on")

    server = AsTask(around)
    async with Conversation(server) as talk:
        await talk.ended()
    assert after == ["went on"]
    assert server.task.cancelling() == 0


async def test_the_server_may_cancel_what_a_callback_has_cancelled() -> None:
    """If both a callback and the server cancel the task, the server's cancellation goes on to the
    server."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        current_token().register(task.cancel)
        await send(start())
        try:
            await anyio.sleep(1000)
        finally:
            await advance(1)

    server = AsTask(SSEBatchingMiddleware(app))
    async with Conversation(server) as talk:
        await advance(1)
        talk.leave()
        await advance(0.5)
        server.task.cancel()
        await talk.ended()
    assert server.task.cancelled()
