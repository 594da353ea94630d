"""FastAPI on a real uvicorn: its ways to stream, its dependencies and its background tasks."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator
from typing import Annotated

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from sse_batching import CancellationToken, CancelReason, current_token, get_token
from tests.support.clients import Client
from tests.support.servers import PATIENCE, serving
from tests.support.streams import (
    EVENT_STREAM,
    Agent,
    StallDetector,
    Watched,
    event,
    ticking,
    waiting,
    without_garbage_collection,
)

EVENTS = 100

each_way_to_stream = pytest.mark.parametrize("path", ["/response", "/generator", "/events"])
each_agent = pytest.mark.parametrize("agent", [ticking, waiting])


async def answer() -> AsyncIterator[bytes]:
    for number in range(EVENTS):
        yield event(number)
        await anyio.lowlevel.checkpoint()


class Service:
    """An app that streams the same in three ways, and what becomes of that."""

    def __init__(self, agent: Agent = answer, *, ask: bool = False) -> None:
        self.watched = Watched()
        self.released = threading.Event()
        """Set when a dependency with `yield` has been torn down."""
        self.plain = app = FastAPI()
        watched = self.watched

        async def resource() -> AsyncIterator[None]:
            if ask:
                watched.watch_token(current_token())
            try:
                yield
            finally:
                self.released.set()

        @app.get("/response", dependencies=[Depends(resource)])
        async def response() -> StreamingResponse:
            return StreamingResponse(watched.watch_agent(agent), media_type=EVENT_STREAM)

        class Events(StreamingResponse):
            media_type = EVENT_STREAM

        @app.get("/generator", response_class=Events, dependencies=[Depends(resource)])
        async def generator() -> AsyncIterator[bytes]:
            async for part in watched.watch_agent(agent):
                yield part

        @app.get("/events", response_class=EventSourceResponse, dependencies=[Depends(resource)])
        async def events() -> AsyncIterator[ServerSentEvent]:
            async for part in watched.watch_agent(agent):
                yield ServerSentEvent(raw_data=part.decode()[6:-2])

    @property
    def batched(self) -> FastAPI:
        return self.watched.batch(self.plain, grace_period=0.05)


def leave_after_first_event(app: FastAPI, path: str) -> None:
    with serving(app) as port, Client(port) as client:
        client.ask(path)
        client.read_start()
        client.read_body(until=b"data: 0")


@each_way_to_stream
def test_events_arrive_in_fewer_chunks(path: str) -> None:
    """However FastAPI is told to stream, its events are batched."""
    with serving(Service().batched) as port, Client(port) as client:
        assert client.get(path).count(b"data: ") == EVENTS
        assert client.chunks < EVENTS / 4


@each_way_to_stream
def test_bytes_are_the_same_as_without_the_middleware(path: str) -> None:
    """However FastAPI is told to stream, what arrives is what it made."""
    bodies = []
    for app in (Service().plain, Service().batched):
        with serving(app) as port, Client(port) as client:
            bodies.append(client.get(path))
    assert bodies[0] == bodies[1]


@each_way_to_stream
@each_agent
def test_client_that_leaves_cancels_the_token_once(path: str, agent: Agent) -> None:
    """A dependency asks for the token, in place of each endpoint."""
    service = Service(agent, ask=True)
    leave_after_first_event(service.batched, path)
    assert service.watched.cancellations == [
        (CancelReason.CLIENT_DISCONNECTED, "SSE client disconnected")
    ]


@each_way_to_stream
@each_agent
@without_garbage_collection()
def test_generator_of_a_client_that_left_is_closed(path: str, agent: Agent) -> None:
    """Its `finally` runs, without a garbage collection."""
    service = Service(agent)
    leave_after_first_event(service.batched, path)
    assert service.watched.closed()


@each_way_to_stream
def test_dependency_is_torn_down_when_the_client_has_left(path: str) -> None:
    """The `finally` of a dependency with `yield` runs, as after a response read to its end."""
    service = Service(waiting)
    leave_after_first_event(service.batched, path)
    assert service.released.wait(PATIENCE)


@each_way_to_stream
def test_disconnect_makes_no_traceback(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """The server's log has one INFO line of ours, and nothing worse from anybody."""
    caplog.set_level(logging.INFO)
    leave_after_first_event(Service(ticking).batched, path)
    assert [r.levelno for r in caplog.records if r.name == "sse_batching"] == [logging.INFO]
    assert [r for r in caplog.records if r.exc_info or r.levelno > logging.INFO] == []


@each_way_to_stream
def test_disconnect_while_a_write_waits_makes_no_traceback(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What FastAPI's own tasks make of the disconnect does not reach the server's log."""

    async def flood() -> AsyncIterator[bytes]:
        while True:
            yield b"data: " + b"x" * 4000 + b"\n\n"

    app = StallDetector(Service(flood).batched)
    with (
        serving(app, socket_buffers=16_384) as port,
        Client(port, socket_buffers=16_384) as client,
    ):
        client.ask(path)
        assert app.stalled()
    assert [r for r in caplog.records if r.exc_info or r.levelno > logging.INFO] == []


def test_background_task_after_a_stream_outlasts_the_client() -> None:
    """A client that leaves once it has read everything cancels nothing."""
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
        return StreamingResponse(answer(), media_type=EVENT_STREAM)

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
    """In coroutines, in the threads of plain functions, in endpoints and dependencies."""
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


def test_plain_endpoint_in_a_thread_is_told_that_the_client_has_left() -> None:
    """A blocking `def` endpoint that waits for a model waits for its token instead."""
    asked = threading.Event()
    told: list[bool] = []
    app = FastAPI()

    @app.get("/")
    def endpoint() -> None:
        token = current_token()
        asked.set()
        told.append(token.wait(PATIENCE))

    with serving(Watched().batch(app)) as port, Client(port) as client:
        client.ask()
        assert asked.wait(PATIENCE)
        client.leave()
    assert told == [True]
