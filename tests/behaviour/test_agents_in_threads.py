"""A blocking agent in a thread learns from its token that its client has left (F7).

A thread cannot be cancelled, so it has to look at its token, or wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
from starlette.concurrency import run_in_threadpool
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sse_batching import (
    CancellationToken,
    SSEBatchingMiddleware,
    StreamCancelled,
    current_token,
    get_token,
)
from sse_batching.testing import Conversation
from tests.conftest import REAL_TIME, loops
from tests.support.apps import chunk, last, start
from tests.support.endings import AsTask
from tests.support.threads import in_thread

pytestmark = pytest.mark.anyio

PATIENCE = 2.0


def wait_for_the_token(token: CancellationToken) -> bool:
    return token.wait(PATIENCE)


def look_at_the_token(token: CancellationToken) -> bool:
    """Look at the token after each step of the work."""
    for _ in range(int(PATIENCE * 1000)):
        if token.cancelled:
            return True
        token.wait(0.001)
    return False


def be_stopped_by_the_token(token: CancellationToken) -> bool:
    token.wait(PATIENCE)
    try:
        token.raise_if_cancelled()
    except StreamCancelled:
        return True
    return False


class Agent:
    """An app whose work is done by a blocking function in a thread."""

    def __init__(self, work: Callable[[CancellationToken], bool], *, streams: bool = True) -> None:
        self._work = work
        self._streams = streams
        self.started = anyio.Event()
        self._stopped: SimpleQueue[bool] = SimpleQueue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._streams:
            await send(start())
            await send(chunk(b"data: 1\n\n"))
        await run_in_threadpool(self.run)
        if self._streams:
            await send(last())

    def run(self) -> None:
        token = current_token()
        anyio.from_thread.run_sync(self.started.set)
        self._stopped.put(self._work(token))

    async def stopped(self) -> bool:
        """Wait for the end of the work. Return True if the token ended it."""
        return await run_in_threadpool(self._stopped.get, timeout=2 * PATIENCE)


@pytest.mark.parametrize("streams", [True, False], ids=["stream", "no-stream"])
@pytest.mark.parametrize(
    "work",
    [wait_for_the_token, look_at_the_token, be_stopped_by_the_token],
    ids=["wait", "cancelled", "raise_if_cancelled"],
)
async def test_a_thread_learns_that_its_client_has_left(
    work: Callable[[CancellationToken], bool], streams: bool
) -> None:
    """A thread that runs in the context of the request finds the token there, also if nothing else
    has asked for the token. Pitfall 18."""
    agent = Agent(work, streams=streams)
    async with Conversation(SSEBatchingMiddleware(agent)) as talk:
        await agent.started.wait()
        talk.leave()
        await talk.ended()
    assert await agent.stopped()
    assert talk.error is None


async def test_a_thread_of_another_pool_finds_the_token_by_the_scope() -> None:
    """A thread without the context of the request gets the token from its scope."""
    stopped: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        loop = anyio.lowlevel.current_token()

        def work() -> bool:
            token = get_token(scope)
            anyio.from_thread.run_sync(talk.leave, token=loop)
            return token.wait(PATIENCE)

        stopped.append(await anyio.to_thread.run_sync(in_thread(work).result))

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await talk.ended()
    assert stopped == [True]
    assert talk.error is None


async def test_a_thread_behind_a_base_http_middleware_learns_that_its_client_has_left() -> None:
    """An outer `BaseHTTPMiddleware` gives this middleware another `receive`, which passes the
    disconnect on. Pitfall 11."""

    async def dispatch(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response

    agent = Agent(wait_for_the_token)
    app: ASGIApp = BaseHTTPMiddleware(SSEBatchingMiddleware(agent), dispatch)
    async with Conversation(app) as talk:
        await agent.started.wait()
        talk.leave()
        await talk.ended()
    assert await agent.stopped()


@loops(REAL_TIME, because="on trio a cancellation waits for the thread that it is to reach")
async def test_a_thread_learns_that_the_task_of_its_request_was_cancelled() -> None:
    """Cancelling the task of a request does not stop its thread, but cancels its token.
    Pitfall 18."""
    agent = Agent(wait_for_the_token)
    server = AsTask(SSEBatchingMiddleware(agent))
    async with Conversation(server) as talk:
        await agent.started.wait()
        server.task.cancel()
        await talk.ended()
    assert server.task.cancelled()
    assert await agent.stopped()
