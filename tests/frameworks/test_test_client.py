"""Starlette's test client, which runs an app on asyncio or on trio, sees no difference."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import anyio.lowlevel
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from sse_batching import CancelReason, SSEBatchingMiddleware, StreamReport, current_token
from tests.support.streams import EVENT_STREAM, event

EVENTS: Final = 20

each_backend = pytest.mark.parametrize("backend", ["asyncio", "trio"])
each_app = pytest.mark.parametrize("bare", [True, False], ids=["bare", "batched"])


@dataclass
class Service:
    """An app for both event loops, and what it has done."""

    bare: bool = False
    done: list[str] = field(default_factory=list)
    reports: list[StreamReport] = field(default_factory=list)

    @property
    def app(self) -> Starlette:
        batching = Middleware(SSEBatchingMiddleware, on_close=self.reports.append)
        return Starlette(
            routes=[
                Route("/stream", self.stream),
                Route("/echo", self.echo, methods=["POST"]),
            ],
            middleware=[] if self.bare else [batching],
        )

    async def agent(self, end: str = "") -> AsyncIterator[bytes]:
        try:
            for number in range(EVENTS):
                yield event(number)
                await anyio.sleep(0.001)
            if end == "fails":
                raise ValueError("the agent has failed")
            if end == "waits":
                await anyio.sleep_forever()
        finally:
            self.done.append("closed")

    async def stream(self, request: Request) -> Response:
        if not self.bare:
            current_token()
        agent = self.agent(request.query_params.get("end", ""))
        tidy_up = BackgroundTask(self.tidy_up)
        return StreamingResponse(agent, media_type=EVENT_STREAM, background=tidy_up)

    async def echo(self, request: Request) -> Response:
        body = await request.body()
        # After the body, the test client sends no message until the response is complete.
        return JSONResponse({"length": len(body), "left": await request.is_disconnected()})

    async def tidy_up(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.done.append("tidied up")


def client_of(service: Service, backend: Any) -> TestClient:
    return TestClient(service.app, backend=backend)


@each_backend
def test_batched_stream_arrives_whole(backend: str) -> None:
    """Each event arrives, in order, in fewer writes."""
    service = Service()
    with client_of(service, backend) as client:
        response = client.get("/stream")
    assert response.content == b"".join(map(event, range(EVENTS)))
    (report,) = service.reports
    assert report.outcome == "completed"
    assert report.writes < EVENTS / 2


@each_backend
@each_app
def test_background_task_runs_when_the_generator_is_closed(backend: str, bare: bool) -> None:
    """The generator is closed first, with the middleware as without it."""
    service = Service(bare)
    with client_of(service, backend) as client:
        client.get("/stream")
    assert service.done == ["closed", "tidied up"]


@each_backend
@each_app
def test_client_that_closes_a_stream_cancels_the_request(backend: str, bare: bool) -> None:
    """The test client sends no `http.disconnect`. It cancels the app, as a server does at shutdown,
    which closes the generator and skips background tasks, with the middleware as without it."""
    service = Service(bare)
    with (
        client_of(service, backend) as client,
        client.stream("GET", "/stream?end=waits") as response,
    ):
        lines = response.iter_lines()
        while next(lines) != f"data: {EVENTS - 1}":
            pass
    assert service.done == ["closed"]
    assert [(report.outcome, report.reason) for report in service.reports] == (
        [] if bare else [("incomplete", CancelReason.SERVER_SHUTDOWN)]
    )


@each_backend
@each_app
def test_exception_of_an_agent_reaches_the_test(backend: str, bare: bool) -> None:
    """The exception is in no group, with the middleware as without it."""
    service = Service(bare)
    with (
        client_of(service, backend) as client,
        pytest.raises(ValueError, match="the agent has failed"),
    ):
        client.get("/stream?end=fails")
    assert service.done == ["closed"]


@each_backend
@each_app
def test_body_of_a_request_arrives(backend: str, bare: bool) -> None:
    """No disconnect is seen before the client has its answer, with the middleware as without it."""
    with client_of(Service(bare), backend) as client:
        answer = client.post("/echo", content=b"x" * 100_000).json()
    assert answer == {"length": 100_000, "left": False}
