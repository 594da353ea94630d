"""An app with sse-starlette for a process that has to shut down while its streams are open.

sse-starlette ends its streams itself. The app prints what happens to them.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import anyio
from sse_starlette import EventSourceResponse
from sse_starlette.sse import AppStatus
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sse_batching import SSEBatchingMiddleware, StreamReport, get_token

BARE = bool(os.environ.get("BARE"))
"""True if the app is built without the middleware."""

if os.environ.get("NO_DRAIN"):
    # The streams go on until the server cancels them.
    AppStatus.enable_automatic_graceful_drain = False


def say(name: str, what: object) -> None:
    print(f"{name}: {what}", flush=True)


async def agent(name: str) -> AsyncIterator[str]:
    try:
        yield "0"
        await anyio.sleep_forever()
    finally:
        say(name, "closed")


async def endpoint(request: Request) -> Response:
    name = request.path_params["name"]
    if name == "asked":
        token = get_token(request)
        token.register(lambda: say(name, token.reason))
    return EventSourceResponse(agent(name), background=BackgroundTask(say, name, "background"))


def on_close(report: StreamReport) -> None:
    print(f"report: {report.outcome} {report.reason} {report.bytes_sent}", flush=True)


batching = Middleware(SSEBatchingMiddleware, on_close=on_close)
app = Starlette(routes=[Route("/{name}", endpoint)], middleware=[] if BARE else [batching])
