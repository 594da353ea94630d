"""Litestar, with its `Stream` and its `ServerSentEvent`."""

from __future__ import annotations

from typing import Any, Final

from litestar import Litestar, get
from litestar.background_tasks import BackgroundTask
from litestar.middleware import DefineMiddleware
from litestar.response import ServerSentEvent, Stream

from sse_batching import SSEBatchingMiddleware
from sse_batching._types import ASGIApp
from tests.frameworks.jobs import Job, Setup, data_in
from tests.support.streams import EVENT_STREAM


def handler_of(job: Job, *, events: bool) -> Any:
    background = BackgroundTask(job.after)

    @get("/")
    async def stream() -> Stream:
        return Stream(job.begin(), media_type=EVENT_STREAM, background=background)

    @get("/")
    async def server_sent_event() -> ServerSentEvent:
        return ServerSentEvent((data_in(part) async for part in job.begin()), background=background)

    return server_sent_event if events else stream


def app_of(job: Job, *, events: bool, middleware: list[DefineMiddleware]) -> Any:
    handlers = [handler_of(job, events=events)]
    return Litestar(handlers, middleware=middleware, openapi_config=None, logging_config=None)


def defined(job: Job) -> list[DefineMiddleware]:
    if job.bare:
        return []
    # Litestar's type of the scope is narrower than the type that an ASGI app accepts.
    middleware: Any = SSEBatchingMiddleware
    return [DefineMiddleware(middleware, **job.options)]


def stream(job: Job) -> ASGIApp:
    app: ASGIApp = app_of(job, events=False, middleware=defined(job))
    return app


def server_sent_event(job: Job) -> ASGIApp:
    app: ASGIApp = app_of(job, events=True, middleware=defined(job))
    return app


def wrapped_stream(job: Job) -> ASGIApp:
    return job.wrap(app_of(job, events=False, middleware=[]))


def wrapped_server_sent_event(job: Job) -> ASGIApp:
    return job.wrap(app_of(job, events=True, middleware=[]))


STAYS_OPEN: Final = (
    "the iterator of a ServerSentEvent and the generator in it refer to each other; when `send` "
    "raises, the generator is suspended at its yield, and nothing closes it"
)

SETUPS: Final = [
    Setup("litestar-stream", stream),
    Setup(
        "litestar-server-sent-event",
        server_sent_event,
        stays_open_because=STAYS_OPEN,
        stays_open_if_asked=True,
    ),
    Setup("litestar-wrapped-stream", wrapped_stream),
    Setup(
        "litestar-wrapped-server-sent-event",
        wrapped_server_sent_event,
        stays_open_because=STAYS_OPEN,
        stays_open_if_asked=True,
    ),
]
