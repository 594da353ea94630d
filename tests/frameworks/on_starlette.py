"""Starlette, with the middleware in each place, and next to other middlewares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from tests.frameworks.jobs import Job, Setup, data_in
from tests.support.streams import EVENT_STREAM

JSON_LINES: Final = "application/jsonl"

Endpoint = Callable[[Request], Any]


def streaming(job: Job, media_type: str = EVENT_STREAM) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return StreamingResponse(
            job.begin(), media_type=media_type, background=BackgroundTask(job.after)
        )

    return endpoint


def event_source(job: Job) -> Endpoint:
    """Return an endpoint that streams with sse-starlette's response."""

    async def endpoint(request: Request) -> Response:
        events = ({"data": data_in(part)} async for part in job.begin())
        return EventSourceResponse(events, background=BackgroundTask(job.after))

    return endpoint


def app_of(endpoint: Endpoint, middleware: list[Middleware]) -> ASGIApp:
    return Starlette(routes=[Route("/", endpoint)], middleware=middleware)


class PassingOn(BaseHTTPMiddleware):
    """Passes the request on, as a function with `@app.middleware("http")` does."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


BASE_HTTP: Final = Middleware(PassingOn)
GZIP: Final = Middleware(GZipMiddleware, minimum_size=1)


def added(job: Job) -> ASGIApp:
    app = Starlette(routes=[Route("/", streaming(job))])
    for middleware in job.middleware():
        app.add_middleware(middleware.cls, *middleware.args, **middleware.kwargs)
    return app


def listed(job: Job) -> ASGIApp:
    return app_of(streaming(job), job.middleware())


def wrapped(job: Job) -> ASGIApp:
    return job.wrap(app_of(streaming(job), []))


def on_route(job: Job) -> ASGIApp:
    return Starlette(routes=[Route("/", streaming(job), middleware=job.middleware())])


def on_mount(job: Job) -> ASGIApp:
    routes = [Route("/", streaming(job))]
    return Starlette(routes=[Mount("/", routes=routes, middleware=job.middleware())])


def in_a_mounted_app(job: Job) -> ASGIApp:
    return Starlette(routes=[Mount("/", app=listed(job))])


def around_a_mounted_app(job: Job) -> ASGIApp:
    inner = app_of(streaming(job), [])
    return Starlette(routes=[Mount("/", app=inner)], middleware=job.middleware())


def base_http_outside(job: Job) -> ASGIApp:
    return app_of(streaming(job), [BASE_HTTP, *job.middleware()])


def base_http_inside(job: Job) -> ASGIApp:
    return app_of(streaming(job), [*job.middleware(), BASE_HTTP])


def gzip_outside(job: Job) -> ASGIApp:
    return app_of(streaming(job), [GZIP, *job.middleware()])


def gzip_inside(job: Job) -> ASGIApp:
    return app_of(streaming(job), [*job.middleware(), GZIP])


def lines_gzip_outside(job: Job) -> ASGIApp:
    return app_of(streaming(job, JSON_LINES), [GZIP, *job.middleware()])


def lines_gzip_inside(job: Job) -> ASGIApp:
    return app_of(streaming(job, JSON_LINES), [*job.middleware(), GZIP])


def sse_starlette(job: Job) -> ASGIApp:
    return app_of(event_source(job), job.middleware())


LINES: Final = {"media_types": (JSON_LINES,)}

SETUPS: Final = [
    Setup("starlette-added", added),
    Setup("starlette-listed", listed),
    Setup("starlette-wrapped", wrapped),
    Setup("starlette-route", on_route),
    Setup("starlette-mount", on_mount),
    Setup("starlette-in-a-mounted-app", in_a_mounted_app),
    Setup("starlette-around-a-mounted-app", around_a_mounted_app),
    Setup("base-http-outside", base_http_outside),
    Setup("base-http-inside", base_http_inside),
    Setup("gzip-outside", gzip_outside),
    Setup("gzip-inside", gzip_inside),
    Setup("json-lines-gzip-outside", lines_gzip_outside, gzipped=True, options=LINES),
    Setup("json-lines-gzip-inside", lines_gzip_inside, gzipped=True, options=LINES),
    Setup("sse-starlette", sse_starlette),
]
