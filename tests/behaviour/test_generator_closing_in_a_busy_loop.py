"""A generator whose client has left is closed promptly, however busy the event loop is (F10)."""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware
from sse_batching._loop._latency import MAX_ITERATION
from sse_batching.testing import Conversation
from tests.conftest import REAL_TIME, loops
from tests.support.apps import Emit, streaming

pytestmark = [
    pytest.mark.anyio,
    loops(REAL_TIME, because="the order in which tasks wake is asyncio's"),
]


@pytest.fixture(autouse=True)
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def busy(go: anyio.Event) -> ASGIApp:
    """Return the app of another stream, which makes one iteration of the same loop long."""

    async def work(emit: Emit) -> None:
        await emit(b"a")
        await go.wait()
        await emit(b"b")
        until = time.perf_counter() + 2 * MAX_ITERATION
        while time.perf_counter() < until:
            pass

    return streaming(work)


async def test_a_generator_that_yields_as_its_client_leaves_is_closed() -> None:
    """A generator is closed if its next chunk comes in the same loop iteration as the disconnect,
    and that iteration is already too long."""
    closed, go = anyio.Event(), anyio.Event()

    async def agent() -> AsyncIterator[bytes]:
        try:
            yield b"data: 1\n\n"
            await go.wait()
            yield b"data: 2\n\n"
            await anyio.sleep_forever()
        finally:
            closed.set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await StreamingResponse(agent(), media_type="text/event-stream")(scope, receive, send)

    other = Conversation(SSEBatchingMiddleware(busy(go)))
    async with other, Conversation(SSEBatchingMiddleware(app)) as talk:
        await other.until(lambda: other.bodies)
        await talk.until(lambda: talk.bodies)
        talk.leave()
        go.set()
        with anyio.fail_after(2):
            await closed.wait()
