"""FastAPI, with its three ways to stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.types import ASGIApp

from tests.frameworks.jobs import Job, Setup, data_in
from tests.support.streams import EVENT_STREAM


def response(job: Job, *dependencies: Any) -> ASGIApp:
    app = FastAPI(middleware=job.middleware(), dependencies=dependencies)

    @app.get("/")
    async def endpoint(tasks: BackgroundTasks) -> StreamingResponse:
        tasks.add_task(job.after)
        return StreamingResponse(job.begin(), media_type=EVENT_STREAM)

    return app


class Events(StreamingResponse):
    media_type = EVENT_STREAM


def generator(job: Job, *dependencies: Any) -> ASGIApp:
    app = FastAPI(middleware=job.middleware(), dependencies=dependencies)

    @app.get("/", response_class=Events)
    async def endpoint(tasks: BackgroundTasks) -> AsyncIterator[bytes]:
        tasks.add_task(job.after)
        async for part in job.begin():
            yield part

    return app


def event_source(job: Job, *dependencies: Any) -> ASGIApp:
    app = FastAPI(middleware=job.middleware(), dependencies=dependencies)

    @app.get("/", response_class=EventSourceResponse)
    async def endpoint(tasks: BackgroundTasks) -> AsyncIterator[ServerSentEvent]:
        tasks.add_task(job.after)
        async for part in job.begin():
            yield ServerSentEvent(raw_data=data_in(part))

    return app


STAYS_OPEN: Final = (
    "FastAPI iterates over the endpoint's generator in a generator of its own, which awaits after "
    "each yield; a cancellation at that await closes FastAPI's generator only"
)

SETUPS: Final = [
    Setup("fastapi-response", response),
    Setup("fastapi-generator", generator, stays_open_because=STAYS_OPEN),
    Setup("fastapi-event-source", event_source, stays_open_because=STAYS_OPEN),
]
