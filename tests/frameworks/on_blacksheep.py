"""BlackSheep: an async generator as streamed content, and as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from blacksheep import Application, Response, Router, StreamedContent
from blacksheep.server.sse import ServerSentEventsResponse, TextServerSentEvent

from sse_batching._types import ASGIApp
from tests.frameworks.jobs import Job, Setup, data_in
from tests.support.streams import EVENT_STREAM


def content(job: Job) -> ASGIApp:
    app = Application(router=Router())

    async def parts() -> AsyncIterator[bytes]:
        async for part in job.begin():
            yield part

    @app.router.get("/")
    async def endpoint() -> Response:
        return Response(200, content=StreamedContent(EVENT_STREAM.encode(), parts))

    return app


def server_sent_events(job: Job) -> ASGIApp:
    app = Application(router=Router())

    async def events() -> AsyncIterator[TextServerSentEvent]:
        async for part in job.begin():
            yield TextServerSentEvent(data_in(part))

    @app.router.get("/")
    async def endpoint() -> Response:
        return ServerSentEventsResponse(events)

    return app


def wrapped_content(job: Job) -> ASGIApp:
    return job.wrap(content(job))


def wrapped_server_sent_events(job: Job) -> ASGIApp:
    return job.wrap(server_sent_events(job))


SETUPS: Final = [
    Setup("blacksheep-content", wrapped_content, listens=False, background=False),
    Setup("blacksheep-events", wrapped_server_sent_events, listens=False, background=False),
]
