"""A request leaves no circle of references that only a garbage collection could free.

A server may switch the collection off, or freeze it. A circle would then be a leak, with the bytes
that the stream has recorded, or with the app's generator.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any, Final

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware, current_stream, current_token
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_ASYNCIO, loops
from tests.support.apps import chunk, last, start
from tests.support.endings import CAUSES, STALLED, Cause

pytestmark = [
    pytest.mark.anyio,
    loops(VIRTUAL_ASYNCIO, because="a loop of trio's makes circles of its own"),
]


@pytest.fixture(autouse=True)
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def circles() -> list[str]:
    """Collect the garbage, and return the names of the objects of this package in it."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found = [
        type(part).__qualname__
        for part in gc.garbage
        if type(part).__module__.startswith("sse_batching")
        or (isinstance(part, FrameType) and "sse_batching" in part.f_code.co_filename)
    ]
    gc.garbage.clear()
    return found


async def asks(scope: Scope, receive: Receive, send: Send) -> None:
    token = current_token()
    with token.register(lambda: None):
        await streams(scope, receive, send)


async def asks_and_forgets(scope: Scope, receive: Receive, send: Send) -> None:
    current_token().register(lambda: None)
    await streams(scope, receive, send)


async def registers_its_task(scope: Scope, receive: Receive, send: Send) -> None:
    task = asyncio.current_task()
    assert task is not None
    current_token().register(task.cancel)
    await streams(scope, receive, send)


async def streams(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start())
    for _ in range(5):
        await send(chunk(b"data: 1\n\n"))
        await anyio.sleep(1)
    await current_stream().flush()
    await send(last())


async def raises(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start())
    await send(chunk(b"data: 1\n\n"))
    raise ValueError("an error of the app")


async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start())
    await send(chunk(b"data: 1\n\n"))


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    current_token()
    await JSONResponse({})(scope, receive, send)


def batched(app: ASGIApp, **options: Any) -> ASGIApp:
    return SSEBatchingMiddleware(app, max_delay=0.5, send_timeout=2, record_bytes=1000, **options)


APPS: Final = [streams, asks, asks_and_forgets, registers_its_task, raises, returns, answers]


@pytest.mark.parametrize("keepalive_interval", [None, 0.3])
@pytest.mark.parametrize("app", APPS)
async def test_a_complete_request_leaves_no_circle(
    app: ASGIApp, keepalive_interval: float | None
) -> None:
    """However the app ends its response by itself, nothing of the request is left."""
    async with Conversation(batched(app, keepalive_interval=keepalive_interval)) as talk:
        await talk.ended()
    talk.error = None  # its traceback refers to the conversation
    await anyio.sleep(10)

    assert circles() == []


@pytest.mark.parametrize("cause", CAUSES, ids=str)
@pytest.mark.parametrize("app", [streams, asks, asks_and_forgets, registers_its_task])
async def test_a_request_that_ended_early_leaves_no_circle(app: ASGIApp, cause: Cause) -> None:
    """Whatever ended the request, nothing of the request is left."""
    async with Conversation(batched(app)) as talk:
        await talk.until(lambda: talk.bodies)
        cause.provoke(talk)
        await talk.ended()
        if cause is STALLED:
            talk.resume()
    talk.error = None
    await anyio.sleep(10)

    assert circles() == []


@pytest.mark.parametrize("path", ["/stream", "/json"])
async def test_an_app_that_calls_itself_closes_its_generator(path: str) -> None:
    """An app may call itself in process (httpx.ASGITransport, fastapi_mcp). The inner request holds
    nothing of the outer one. Pitfall 89."""
    closed = anyio.Event()

    async def outer(request: Request) -> Response:
        current_token()

        async def generate() -> AsyncIterator[bytes]:
            try:
                async with httpx.AsyncClient(
                    transport=httpx.ASGITransport(app), base_url="http://inside"
                ) as client:
                    while True:
                        await client.get(path)
                        yield b"data: 1\n\n"
                        await anyio.sleep(0.1)
            finally:
                closed.set()

        return StreamingResponse(generate(), media_type="text/event-stream")

    async def stream(request: Request) -> Response:
        current_token()

        async def generate() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"data: 1\n\n"
                await anyio.sleep(0.1)

        return StreamingResponse(generate(), media_type="text/event-stream")

    async def answer(request: Request) -> Response:
        current_token()
        return JSONResponse({})

    routes = [Route("/", outer), Route("/stream", stream), Route("/json", answer)]
    app = SSEBatchingMiddleware(Starlette(routes=routes), grace_period=0.3)
    async with Conversation(app) as talk:
        await talk.until(lambda: len(talk.bodies) > 2)
        talk.leave()
        await talk.ended()
        with suppress(TimeoutError), anyio.fail_after(2):
            await closed.wait()
    assert closed.is_set()
