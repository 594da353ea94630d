"""What only Quart has: it runs the handler in another task than the task of the request."""

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
    """Block for longer than the grace period and the time that frameworks get after it."""
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        pass


def test_handler_ends_though_the_loop_was_busy_when_the_client_left() -> None:
    """The app is not cancelled at the moment when it sees the disconnect late. Quart would have no
    time to cancel the task of its handler, and nothing else cancels that task."""
    job = Job(waiting)
    app = Quart(__name__)

    @app.get("/")
    async def endpoint() -> Response:
        current_token().register(be_busy)
        return Response(job.begin(), mimetype=EVENT_STREAM)

    whole: Any = app  # Quart's type of the scope is narrower than the type that ASGI apps accept
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
