"""An exception of the app goes on after all that the app had sent is delivered (D5)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware, StreamReport
from sse_batching.testing import Conversation
from tests.conftest import EVERY_LOOP, VIRTUAL_TIME, loops
from tests.support.apps import Emit, chunk, start, streaming
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]


class Broken(Exception):
    """Raised by the apps of these tests."""


def failing(error: BaseException) -> ASGIApp:
    async def work(emit: Emit) -> None:
        for body in (b"a", b"b", b"c"):
            await emit(body)
        raise error

    return streaming(work)


async def test_what_was_sent_is_delivered_before_the_exception_goes_on() -> None:
    """The middleware delivers what the app had sent, and then raises the app's exception object.
    Pitfalls 41 and 70."""
    error = Broken()
    async with Conversation(SSEBatchingMiddleware(failing(error))) as talk:
        await talk.ended()
    assert talk.error is error
    assert talk.body == b"abc"
    assert not talk.completed


async def test_the_exception_waits_for_a_write_in_flight() -> None:
    """A slow client still gets all bytes that came before the exception."""
    error = Broken()

    async def work(emit: Emit) -> None:
        talk.stall()
        await emit(b"a")
        await advance(0.25)
        await emit(b"b")
        raise error

    async with Conversation(SSEBatchingMiddleware(streaming(work))) as talk:
        await advance(5)
        assert talk.error is None
        talk.resume()
        await talk.ended()
    assert talk.error is error
    assert talk.bodies == [b"a", b"b"]


async def test_the_exception_goes_on_if_what_is_buffered_cannot_be_delivered() -> None:
    """A write that fails after the app has raised does not replace the exception of the app."""
    error = Broken()
    reports: list[StreamReport] = []

    async def work(emit: Emit) -> None:
        await emit(b"a")
        talk.fail_writes(ConnectionResetError())
        raise error

    app = SSEBatchingMiddleware(streaming(work), on_close=reports.append)
    async with Conversation(app) as talk:
        await talk.ended()
    assert talk.error is error
    assert [report.bytes_undelivered for report in reports] == [1]


async def test_an_exception_before_the_response_passes() -> None:
    """An exception that comes before the start of a response goes on as it is. Pitfall 69."""
    error = Broken()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await talk.ended()
    assert talk.error is error
    assert talk.sent == []


async def test_an_exception_group_of_the_app_stays_as_it_is() -> None:
    """The middleware neither adds an exception group nor unpacks the group of an app."""
    error = ExceptionGroup("several", [Broken(), Broken()])
    async with Conversation(SSEBatchingMiddleware(failing(error))) as talk:
        await talk.ended()
    assert talk.error is error


def alone(app: ASGIApp) -> ASGIApp:
    return app


def inside_base_http_middleware(app: ASGIApp) -> ASGIApp:
    async def dispatch(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response

    return BaseHTTPMiddleware(app, dispatch)


@loops(EVERY_LOOP)  # Starlette runs the synchronous generator in threads
@pytest.mark.parametrize("synchronous", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize("inside", [alone, inside_base_http_middleware])
async def test_an_exception_of_a_starlette_generator_comes_out_alone(
    inside: Callable[[ASGIApp], ASGIApp], synchronous: bool
) -> None:
    """Starlette streams in a task group, and still its generator's exception is in no group."""
    error = Broken()

    async def generate() -> AsyncIterator[bytes]:
        yield b"a"
        await anyio.lowlevel.checkpoint()
        yield b"b"
        raise error

    def generate_in_thread() -> Iterator[bytes]:
        yield b"a"
        yield b"b"
        raise error

    async def endpoint(request: Request) -> Response:
        content = generate_in_thread() if synchronous else generate()
        return StreamingResponse(content, media_type="text/event-stream")

    app = inside(Starlette(routes=[Route("/", endpoint)]))
    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await talk.ended()
    assert talk.error is error
    assert talk.body == b"ab"


@pytest.mark.parametrize("pause", [0, 1.0])
async def test_chunks_are_delivered_if_the_app_returns_without_a_last_message(
    pause: float,
) -> None:
    """Chunks are delivered if the app returns without a last message. The middleware makes up no
    last message. Pitfalls 38 and 70."""
    reports: list[StreamReport] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(chunk(b"a"))
        await send(chunk(b"b"))
        await advance(pause)

    async with Conversation(SSEBatchingMiddleware(app, on_close=reports.append)) as talk:
        await talk.ended()
    assert talk.error is None
    assert talk.body == b"ab"
    assert not talk.completed
    assert [report.outcome for report in reports] == ["failed"]
