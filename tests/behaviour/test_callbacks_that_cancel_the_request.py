"""`token.register(task.cancel)` with the task of the request itself, as many apps do."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from sse_batching import CancellationToken, SSEBatchingMiddleware, current_token
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

    server = await left_and_then_cancelled(app)
    assert server.task.cancelled()


async def left_and_then_cancelled(app: ASGIApp) -> AsTask:
    """Let the client leave, and the server cancel the request half a second later."""
    server = AsTask(SSEBatchingMiddleware(app))
    async with Conversation(server) as talk:
        await advance(1)
        talk.leave()
        await advance(0.5)
        server.task.cancel()
        await talk.ended()
    return server


async def with_cancel_scope(token: CancellationToken) -> None:
    with anyio.CancelScope() as scope:
        token.register(scope.cancel)
        await anyio.sleep(1000)


async def with_function_that_cancels_a_scope(token: CancellationToken) -> None:
    async with anyio.create_task_group() as group:
        token.register(lambda: group.cancel_scope.cancel())
        group.start_soon(anyio.sleep, 1000)


async def with_timeout(token: CancellationToken) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(1000) as timeout:
            token.register(timeout.reschedule, 0)
            await asyncio.sleep(1000)


async def with_uncancel(token: CancellationToken) -> None:
    task = asyncio.current_task()
    assert task is not None
    token.register(task.cancel)
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        task.uncancel()


@pytest.mark.parametrize(
    "work",
    [with_cancel_scope, with_function_that_cancels_a_scope, with_timeout, with_uncancel],
)
async def test_the_server_may_cancel_after_the_app_has_undone_what_a_callback_cancelled(
    work: Callable[[CancellationToken], Awaitable[None]],
) -> None:
    """The server's cancellation goes on to the server, also if the app has ended a scope before
    that a callback had cancelled."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await work(current_token())
        await advance(1)

    server = await left_and_then_cancelled(app)
    assert server.task.cancelled()
    assert server.task.cancelling() == 1


@pytest.mark.parametrize("way", ["a waiting task", "call_later", "call_at"])
async def test_what_the_token_sets_going_may_cancel_the_task_of_the_request(way: str) -> None:
    """A cancellation by a task that waits for the token, or by a timer that the token starts, does
    not leave the middleware."""
    waiting: list[asyncio.Task[None]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token, task = current_token(), asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()

        async def wait_and_cancel() -> None:
            await token.wait_async()
            task.cancel()

        if way == "call_later":
            token.register(loop.call_later, 0.5, task.cancel)  # type: ignore[arg-type]
        elif way == "call_at":
            token.register(loop.call_at, loop.time() + 1.5, task.cancel)  # type: ignore[arg-type]
        else:
            waiting.append(asyncio.create_task(wait_and_cancel()))
        await send(start())
        await anyio.sleep(1000)

    server = AsTask(SSEBatchingMiddleware(app))
    async with Conversation(server) as talk:
        await advance(1)
        talk.leave()
        await talk.ended()
    assert not server.task.cancelled()
    assert server.task.exception() is None
    assert server.task.cancelling() == 0


async def test_a_registered_function_leaves_no_circle() -> None:
    """What counts the cancellations of a registered function is freed without a garbage
    collection."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        current_token().register(lambda: None)
        await send(start())
        await anyio.sleep(1000)

    gc.collect()
    gc.disable()
    try:
        async with Conversation(SSEBatchingMiddleware(app, grace_period=1)) as talk:
            await advance(1)
            talk.leave()
            await talk.ended()
            await advance(1)
        left = [type(found).__name__ for found in gc.get_objects()]
    finally:
        gc.enable()
    assert "_QueueCount" not in left
