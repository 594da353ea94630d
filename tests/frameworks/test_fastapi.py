"""What only FastAPI has: dependencies, endpoints in threads, and more ways to get the token."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio.lowlevel
import anyio.to_thread
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Request
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from sse_batching import (
    CancellationToken,
    SSEBatchingMiddleware,
    current_token,
    get_token,
    observe_token,
)
from tests.frameworks import on_fastapi
from tests.frameworks.jobs import Job, answering
from tests.support.clients import Client
from tests.support.servers import PATIENCE, serving
from tests.support.streams import EVENT_STREAM, Agent, Watched, waiting

each_way_to_stream = pytest.mark.parametrize(
    "build", [on_fastapi.response, on_fastapi.generator, on_fastapi.event_source]
)


@each_way_to_stream
@pytest.mark.parametrize("agent", [answering, waiting], ids=["whole", "cut"])
@pytest.mark.parametrize("bare", [True, False], ids=["bare", "batched"])
def test_dependency_is_torn_down_after_the_generator(build: Any, agent: Agent, bare: bool) -> None:
    """The `finally` of a dependency with `yield` runs after the stream, whole or cut, with the
    middleware as without it."""
    job = Job(agent, bare=bare)
    order: list[str] = []

    async def resource() -> AsyncIterator[None]:
        order.append("set up")
        try:
            yield
        finally:
            order.append("torn down after" if job.closed else "torn down before")

    with serving(build(job, Depends(resource))) as port, Client(port) as client:
        client.ask()
        client.read_start()
        client.read_body(until=None if agent is answering else b"data: 0")
    assert order == ["set up", "torn down after"]


def test_background_task_after_a_stream_outlasts_the_client() -> None:
    """A client that leaves after it has read everything cancels nothing. Pitfall 3."""
    left = threading.Event()
    ended = threading.Event()

    async def bill(token: CancellationToken) -> None:
        assert await anyio.to_thread.run_sync(left.wait, PATIENCE)
        await anyio.lowlevel.checkpoint()
        if not token.cancelled:
            ended.set()

    app = FastAPI()

    @app.get("/")
    async def endpoint(tasks: BackgroundTasks) -> StreamingResponse:
        tasks.add_task(bill, current_token())
        return StreamingResponse(answering(), media_type=EVENT_STREAM)

    watched = Watched()
    with serving(watched.batch(app)) as port:
        with Client(port) as client:
            client.get()
        left.set()
        assert watched.report().outcome == "completed"
    assert ended.is_set()


def token_of(request: Request) -> CancellationToken:
    return get_token(request)


TokenOfRequest = Annotated[CancellationToken, Depends(token_of)]


def test_every_way_to_ask_gives_the_same_token() -> None:
    """This holds in coroutines, in threads of plain functions, in endpoints and in dependencies."""
    tokens: list[CancellationToken] = []

    def dependency() -> None:
        tokens.append(current_token())

    async def async_dependency() -> None:
        tokens.append(current_token())

    app = FastAPI(dependencies=[Depends(dependency), Depends(async_dependency)])

    @app.get("/")
    def endpoint(token: TokenOfRequest) -> None:
        tokens.extend((token, current_token()))

    with serving(Watched().batch(app)) as port, Client(port) as client:
        client.get()
    assert len(tokens) == 4
    assert len(set(map(id, tokens))) == 1


def test_plain_endpoint_in_a_thread_sees_its_token_cancelled() -> None:
    """A blocking `def` endpoint that waits for its token stops waiting when the client leaves."""
    asked = threading.Event()
    cancelled: list[bool] = []
    app = FastAPI()

    @app.get("/")
    def endpoint() -> None:
        token = current_token()
        asked.set()
        cancelled.append(token.wait(PATIENCE))

    with serving(Watched().batch(app)) as port, Client(port) as client:
        client.ask()
        assert asked.wait(PATIENCE)
        client.leave()
    assert cancelled == [True]


def test_the_token_can_be_a_dependency() -> None:
    """`Depends` accepts each function that finds the token. None adds a parameter to the API."""
    found: list[list[CancellationToken]] = []
    app = FastAPI()
    app.add_middleware(SSEBatchingMiddleware)

    @app.get("/")
    async def endpoint(
        current: Annotated[CancellationToken, Depends(current_token)],
        got: Annotated[CancellationToken, Depends(get_token)],
        observed: Annotated[CancellationToken, Depends(observe_token)],
    ) -> None:
        found.append([current, got, observed])

    with TestClient(app) as client:
        assert client.get("/").status_code == 200

    (tokens,) = found
    assert len({id(token) for token in tokens}) == 1
    assert "parameters" not in app.openapi()["paths"]["/"]["get"]
