"""Quart beyond what every framework has: it runs the handler in a task apart from the request's."""

from __future__ import annotations

import time
from typing import Any

from quart import Quart, Response

from sse_batching import SSEBatchingMiddleware, current_token
from tests.frameworks.jobs import Job
from tests.support.clients import Client
from tests.support.servers import serving
from tests.support.streams import EVENT_STREAM, waiting


def be_busy() -> None:
    """Longer than the grace period, and the time that frameworks have after it."""
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        pass


def test_handler_ends_though_the_loop_was_busy_when_the_client_left() -> None:
    """Who is told late that the client has left is not cancelled in the same moment: Quart would
    not get to cancel its task, and nobody else does."""
    job = Job(waiting)
    app = Quart(__name__)

    @app.get("/")
    async def endpoint() -> Response:
        current_token().register(be_busy)
        return Response(job.begin(), mimetype=EVENT_STREAM)

    whole: Any = app  # it types the scope more narrowly than any server does
    with (
        serving(SSEBatchingMiddleware(whole, grace_period=0.01)) as port,
        Client(port) as client,
    ):
        client.ask()
        client.read_start()
        client.read_body(until=b"data: 0")
        client.leave()
        closed = job.closed_at()
    assert closed < time.monotonic()
