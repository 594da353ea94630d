"""Quart: an async generator as a response."""

from __future__ import annotations

from typing import Any, Final

from quart import Quart, Response

from sse_batching._types import ASGIApp
from tests.frameworks.jobs import Job, Setup
from tests.support.streams import EVENT_STREAM


def plain(job: Job) -> Quart:
    app = Quart(__name__)

    @app.get("/")
    async def endpoint() -> Response:
        app.add_background_task(job.after)
        return Response(job.begin(), mimetype=EVENT_STREAM)

    return app


def around_asgi_app(job: Job) -> ASGIApp:
    app: Any = plain(job)
    app.asgi_app = job.wrap(app.asgi_app)
    whole: ASGIApp = app
    return whole


def wrapped(job: Job) -> ASGIApp:
    return job.wrap(plain(job))


SETUPS: Final = [
    Setup("quart", around_asgi_app),
    Setup("quart-wrapped", wrapped),
]
