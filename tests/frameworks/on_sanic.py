"""Sanic: a handler that sends part after part."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import Any, Final

from sanic import Sanic
from sanic.request import Request

from sse_batching import ClientDisconnected
from sse_batching._types import ASGIApp
from tests.frameworks.jobs import Job, Setup
from tests.support.streams import EVENT_STREAM

NAMES: Final = (f"app{number}" for number in itertools.count())
"""Names of apps: Sanic allows each name once in a process."""


def plain(job: Job) -> Any:
    app: Any = Sanic(next(NAMES), configure_logging=False)
    app.config.TOUCHUP = False  # reads source files, which would block the event loop
    app.config.MOTD = False  # asks the system what it is, in the event loop too

    async def endpoint(request: Request[Any, Any]) -> None:
        response = await request.respond(content_type=EVENT_STREAM)
        with suppress(ClientDisconnected):  # Sanic logs what a handler raises, with a traceback
            async for part in job.begin():
                await response.send(part)
        await response.eof()

    app.add_route(endpoint, "/")
    return app


def wrapped(job: Job) -> ASGIApp:
    return job.wrap(plain(job))


SETUPS: Final = [Setup("sanic", wrapped, listens=False, background=False)]
