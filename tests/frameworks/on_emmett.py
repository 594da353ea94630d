"""Emmett: an async generator that `response.wrap_aiter` makes a response of."""

from __future__ import annotations

from typing import Any, Final

from emmett import App, response  # type: ignore[import-untyped]

from sse_batching._types import ASGIApp, Receive, Scope, Send
from tests.frameworks.jobs import Job, Setup
from tests.support.streams import EVENT_STREAM


def plain(job: Job) -> Any:
    app: Any = App(__name__)

    async def endpoint() -> Any:
        response.content_type = EVENT_STREAM
        return response.wrap_aiter(job.begin())

    app.route("/")(endpoint)
    return app


def wrapped(job: Job) -> ASGIApp:
    app = plain(job)

    async def called(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)  # without the middleware uvicorn takes it for an ASGI 2 app

    return job.wrap(called)


SETUPS: Final = [Setup("emmett", wrapped, listens=False, background=False)]
