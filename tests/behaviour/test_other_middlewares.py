"""Starlette's own middlewares, outside and inside this one: both keep working."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware, current_token
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import start
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]


async def pass_on(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    return response


BATCHING = Middleware(SSEBatchingMiddleware)
BASE_HTTP = Middleware(BaseHTTPMiddleware, dispatch=pass_on)
GZIP = Middleware(GZipMiddleware, minimum_size=1)


class Served:
    """An app that streams, and runs a background task afterwards."""

    def __init__(self, *middleware: Middleware, pause: float = 1.0) -> None:
        self.done = False
        self._pause = pause
        self.app = Starlette(routes=[Route("/", self._answer)], middleware=list(middleware))

    async def _answer(self, request: Request) -> Response:
        return StreamingResponse(
            self._events(), media_type="text/event-stream", background=BackgroundTask(self._after)
        )

    async def _events(self) -> AsyncIterator[bytes]:
        for number in range(4):
            yield b"data: %d\n\n" % number
            await anyio.sleep(self._pause)

    async def _after(self) -> None:
        await advance(1)
        self.done = True


@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "leaves"])
@pytest.mark.parametrize(
    "stack", [[BASE_HTTP, BATCHING], [BATCHING, BASE_HTTP]], ids=["outside", "inside"]
)
async def test_background_tasks_run_as_without_us(stack: list[Middleware], leaves: bool) -> None:
    """Outside or inside a `BaseHTTPMiddleware`, a background task runs if it would run without this
    middleware, also after a disconnect. Pitfall 12."""
    batched, bare = Served(*stack), Served(BASE_HTTP)
    await read(batched, leaves)
    await read(bare, leaves)
    assert batched.done is bare.done
    assert leaves or batched.done


async def read(served: Served, leaves: bool) -> None:
    async with Conversation(served.app) as talk:
        await talk.until(lambda: talk.bodies)
        if leaves:
            talk.leave()
        await talk.ended()


@pytest.mark.parametrize("stack", [[GZIP, BATCHING], [BATCHING, GZIP]], ids=["outside", "inside"])
async def test_events_go_out_in_time_although_others_are_compressed(
    stack: list[Middleware],
) -> None:
    """Starlette's `GZipMiddleware` does not compress an event stream, batched or not.
    Pitfall 67."""
    served = Served(*stack, pause=1000)
    async with Conversation(served.app, headers=[(b"accept-encoding", b"gzip")]) as talk:
        await advance(10)
        assert talk.body == b"data: 0\n\n"


async def until_cancelled(scope: Scope, receive: Receive, send: Send) -> None:
    token = current_token()
    await send(start(b"text/event-stream" if scope["path"].endswith("stream") else b"text/plain"))
    await token.wait_async()
    scope["app"].state.told.append(scope["path"])


async def endpoint(request: Request) -> ASGIApp:
    return until_cancelled


ENDPOINTS = ["/route/stream", "/route/other", "/mounted/route/stream", "/app/stream", "/app/other"]


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_every_endpoint_has_its_token(path: str) -> None:
    """Routes, mounts and bare apps get a token, whether or not they stream. Pitfall 20."""
    routes = [Route("/route/{kind}", endpoint), Mount("/app", until_cancelled)]
    app = Starlette(routes=[*routes, Mount("/mounted", routes=routes)], middleware=[BATCHING])
    app.state.told = []
    async with Conversation(app, path=path) as talk:
        await talk.until(lambda: talk.sent)
        talk.leave()
        await talk.ended()
    assert app.state.told == [path]
