"""Apps that send without end and never await anything else, and one that answers at once."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware
from tests.support.streams import EVENT_STREAM, event, never_awaiting


async def endless(request: Request) -> Response:
    return StreamingResponse(never_awaiting(), media_type=EVENT_STREAM)


async def raw_endless(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"content-type", EVENT_STREAM.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while True:
        await send({"type": "http.response.body", "body": event(0), "more_body": True})


async def health(request: Request) -> Response:
    return PlainTextResponse("fine")


def endless_app(**options: Any) -> Starlette:
    app = Starlette(
        routes=[
            Route("/generator", endless),
            Mount("/raw", raw_endless),
            Route("/health", health),
        ]
    )
    app.add_middleware(SSEBatchingMiddleware, **options)
    return app


app = endless_app()
without_bound = endless_app(max_batch_bytes=1 << 40)
