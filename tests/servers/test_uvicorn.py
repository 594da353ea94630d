"""An app behind the middleware on a real uvicorn: what the client gets, and when."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from sse_batching import CancellationToken, SSEBatchingMiddleware, current_token
from tests.support.clients import Client
from tests.support.servers import HTTPTOOLS, KINDS, PATIENCE, Kind, server_process, serving
from tests.support.streams import EVENT_STREAM, Watched, event

each_kind = pytest.mark.parametrize("kind", KINDS)

EVENTS = 200


async def answer() -> AsyncIterator[bytes]:
    for number in range(EVENTS):
        yield event(number)
        await anyio.lowlevel.checkpoint()


async def chat(request: Request) -> Response:
    return StreamingResponse(answer(), media_type=EVENT_STREAM)


@each_kind
def test_events_arrive_in_fewer_chunks(kind: Kind) -> None:
    """The app sends each event in a message of its own, and the server sends a few chunks.
    Pitfall 68."""
    app = Starlette(routes=[Route("/", chat)])
    app.add_middleware(SSEBatchingMiddleware)
    with serving(app, kind) as port, Client(port) as client:
        assert client.get().count(b"\n\n") == EVENTS
        assert client.chunks < EVENTS / 2  # a busy machine takes longer, and needs more writes


@each_kind
def test_response_is_the_same_as_without_the_middleware(kind: Kind) -> None:
    """The status, the headers and the bytes are equal."""
    plain = Starlette(routes=[Route("/", chat)])
    batched = Starlette(routes=[Route("/", chat)])
    batched.add_middleware(SSEBatchingMiddleware)
    responses = []
    for app in (plain, batched):
        with serving(app, kind, date_header=False) as port, Client(port) as client:
            client.ask()
            start = client.read_start()
            responses.append((start.status_code, list(start.headers), client.read_body()))
    assert responses[0] == responses[1]


@each_kind
def test_every_event_arrives_while_the_agent_pauses(kind: Kind) -> None:
    """The app sends two events at a time, and both arrive before it sends the next two.
    Pitfall 34."""
    read = threading.Event()

    async def pausing() -> AsyncIterator[bytes]:
        for number in range(0, 6, 2):
            yield event(number)
            yield event(number + 1)
            assert await anyio.to_thread.run_sync(read.wait, PATIENCE)
            read.clear()

    app = Watched().stream(pausing)
    with serving(app, kind) as port, Client(port) as client:
        client.ask()
        client.read_start()
        for number in range(0, 6, 2):
            client.read_body(until=event(number + 1))
            read.set()
        assert client.read_body() == b""


@each_kind
def test_next_request_of_a_connection_is_not_cancelled(kind: Kind) -> None:
    """The end of a response is not a disconnect, for this request and for the next one.
    Pitfall 16."""
    tokens: list[CancellationToken] = []
    watched = Watched()

    async def handler(request: Request) -> Response:
        tokens.append(current_token())
        return StreamingResponse(answer(), media_type=EVENT_STREAM)

    with serving(watched.serve(handler), kind) as port, Client(port) as client:
        for _ in range(3):
            assert client.get().count(b"\n\n") == EVENTS
            assert watched.report().outcome == "completed"
    assert [token.cancelled for token in tokens] == [False] * 3


@each_kind
def test_connection_is_kept_alive_after_a_stream(kind: Kind) -> None:
    """The connection on which a stream has completed serves another request."""

    async def hello(request: Request) -> Response:
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/", chat), Route("/hello", hello)])
    app.add_middleware(SSEBatchingMiddleware)
    with serving(app, kind) as port, Client(port) as client:
        client.get()
        assert client.get("/hello") == b"hello"


@contextmanager
def reading_as_fast_as_possible(port: int, path: str) -> Iterator[None]:
    def read() -> None:
        with suppress(OSError):  # when the connection is shut down
            while client.connection.recv(65_536):
                pass

    with Client(port) as client:
        client.ask(path)
        assert client.read_start().status_code == 200
        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield
        finally:
            client.connection.shutdown(socket.SHUT_RDWR)
            reader.join()


def median_seconds_of_health(app: str, kind: Kind, beside: str) -> float:
    """Return the median time for /health while a stream is read as fast as possible.

    The server runs in a process of its own. In this process it would share the interpreter with its
    clients. The median is used because a busy machine may delay any single answer.
    """
    command = ("-m", "uvicorn", f"tests.support.endless_apps:{app}", "--port", "0")
    options = ("--http", kind.http, "--loop", kind.loop, "--timeout-graceful-shutdown", "1")
    seconds = []
    with server_process(*command, *options) as (_, port), Client(port) as client:
        client.get("/health")
        with reading_as_fast_as_possible(port, beside):
            for _ in range(9):
                asked = time.perf_counter()
                assert client.get("/health") == b"fine"
                seconds.append(time.perf_counter() - asked)
    return statistics.median(seconds)


@each_kind
@pytest.mark.parametrize("path", ["/generator", "/raw/"])
def test_health_is_answered_within_100_ms_beside_an_app_that_never_awaits(
    kind: Kind, path: str
) -> None:
    """An endless `while True: yield` does not block other requests of the worker. Pitfall 7."""
    assert median_seconds_of_health("app", kind, beside=path) < 0.1


def test_health_is_answered_within_100_ms_without_backpressure() -> None:
    """The app's `send` yields to other tasks even if the buffer never fills."""
    assert median_seconds_of_health("without_bound", HTTPTOOLS, beside="/generator") < 0.1
