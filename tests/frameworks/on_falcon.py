"""Falcon: a stream, and an emitter of server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import falcon.asgi
from falcon.asgi import Request, Response, SSEvent

from sse_batching._types import ASGIApp
from tests.frameworks.jobs import Job, Setup, data_in
from tests.support.streams import EVENT_STREAM


def app_of(resource: object) -> ASGIApp:
    app: Any = falcon.asgi.App()  # Falcon's type of a message is narrower
    app.add_route("/", resource)
    whole: ASGIApp = app
    return whole


def stream(job: Job) -> ASGIApp:
    class Resource:
        async def on_get(self, request: Request, response: Response) -> None:
            response.schedule(job.after)
            response.content_type = EVENT_STREAM
            response.stream = job.begin()

    return app_of(Resource())


def sse(job: Job) -> ASGIApp:
    async def events() -> AsyncIterator[SSEvent]:
        async for part in job.begin():
            yield SSEvent(data=data_in(part).encode())

    class Resource:
        async def on_get(self, request: Request, response: Response) -> None:
            response.schedule(job.after)
            response.sse = events()

    return app_of(Resource())


def wrapped_stream(job: Job) -> ASGIApp:
    return job.wrap(stream(job))


def wrapped_sse(job: Job) -> ASGIApp:
    return job.wrap(sse(job))


SETUPS: Final = [
    Setup("falcon-stream", wrapped_stream, listens=False),
    Setup("falcon-sse", wrapped_sse, listens=False),
]
