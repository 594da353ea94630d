"""A client leaves a real uvicorn: the token, the generator and the log."""

from __future__ import annotations

import logging
import threading

import anyio
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from sse_batching import CancelReason, SSEBatchingMiddleware, current_token, get_token
from sse_batching._types import Receive, Scope, Send
from tests.support.clients import WAYS_TO_LEAVE, Client, Leave
from tests.support.servers import KINDS, PATIENCE, Kind, serving
from tests.support.streams import (
    EVENT_STREAM,
    Agent,
    Watched,
    event,
    never_awaiting,
    ticking,
    waiting,
    without_garbage_collection,
)

each_kind = pytest.mark.parametrize("kind", KINDS)
each_way = pytest.mark.parametrize("way", WAYS_TO_LEAVE)
each_agent = pytest.mark.parametrize("agent", [ticking, waiting])

LEFT = (CancelReason.CLIENT_DISCONNECTED, "SSE client disconnected")


def leave_after_first_event(port: int, way: Leave, watched: Watched) -> None:
    with Client(port) as client:
        client.ask()
        client.read_start()
        client.read_body(until=event(0))
        client.leave(way)
        watched.closed()


@each_kind
@each_way
@each_agent
def test_client_that_leaves_cancels_the_token_once(kind: Kind, way: Leave, agent: Agent) -> None:
    """This holds for each way of leaving, whether the agent is sending or waiting.
    Pitfalls 8 and 15."""
    watched = Watched()
    with serving(watched.stream(agent, ask=True, grace_period=0.05), kind) as port:
        leave_after_first_event(port, way, watched)
    assert watched.cancellations == [LEFT]


@each_way
def test_stream_of_a_client_that_left_is_incomplete(way: Leave) -> None:
    """The report has the outcome and the reason."""
    watched = Watched()
    with serving(watched.stream(ticking)) as port:
        leave_after_first_event(port, way, watched)
        report = watched.report()
    assert (report.outcome, report.reason) == ("incomplete", CancelReason.CLIENT_DISCONNECTED)


@each_kind
@pytest.mark.parametrize("agent", [ticking, waiting, never_awaiting])
@pytest.mark.parametrize("ask", [False, True], ids=["never-asked", "asked-and-goes-on"])
@without_garbage_collection()
def test_generator_is_closed_without_a_garbage_collection(
    kind: Kind, agent: Agent, ask: bool
) -> None:
    """The generator's `finally` runs, whether the framework or the middleware ends the stream.
    Pitfall 23."""
    watched = Watched()
    with serving(watched.stream(agent, ask=ask, grace_period=0.05), kind) as port:
        with Client(port) as client:
            client.ask()
            client.read_start()
            client.read_body(until=event(0))
        assert watched.closed()


@each_kind
def test_app_that_ignores_the_disconnect_is_cancelled(kind: Kind) -> None:
    """This app has asked for its token, and looks neither at the token nor at `receive`."""
    cancelled = threading.Event()

    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        get_token(scope)
        headers = [(b"content-type", EVENT_STREAM.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": event(0), "more_body": True})
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    app = SSEBatchingMiddleware(stubborn, grace_period=0.05)
    with serving(app, kind, lifespan="off") as port:
        with Client(port) as client:
            client.ask()
            client.read_start()
            client.read_body(until=event(0))
        assert cancelled.wait(PATIENCE)


@each_kind
@each_way
def test_disconnect_logs_one_line_and_no_traceback(
    kind: Kind, way: Leave, caplog: pytest.LogCaptureFixture
) -> None:
    """The INFO line has the stream, the reason and the bytes. No other logger warns of anything."""
    caplog.set_level(logging.INFO)
    watched = Watched()
    with serving(watched.stream(ticking), kind) as port:
        leave_after_first_event(port, way, watched)
        report = watched.report()
    (line,) = [record for record in caplog.records if record.name == "sse_batching"]
    assert line.levelno == logging.INFO
    assert line.getMessage().startswith(
        f"stream {report.stream_id}: SSE client disconnected (client_disconnected) after "
    )
    assert f"{report.bytes_sent} bytes sent" in line.getMessage()
    assert [r for r in caplog.records if r.exc_info or r.levelno > logging.INFO] == []


@each_kind
@each_way
def test_client_that_leaves_before_the_response_cancels_the_token(kind: Kind, way: Leave) -> None:
    """A missed disconnect costs most while the handler waits for its model. Pitfall 10."""
    watched = Watched()
    asked = threading.Event()

    async def handler(request: Request) -> Response:
        token = current_token()
        watched.watch_token(token)
        asked.set()
        await token.wait_async()
        return JSONResponse({})

    with serving(watched.serve(handler), kind) as port, Client(port) as client:
        client.ask()
        assert asked.wait(PATIENCE)
        client.leave(way)
        assert watched.report().reason is CancelReason.CLIENT_DISCONNECTED
    assert watched.cancellations == [LEFT]


@each_kind
def test_stream_that_starts_after_the_client_has_left_is_ended(
    kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that ignores its cancelled token is stopped without a traceback."""
    watched = Watched()
    asked = threading.Event()

    async def handler(request: Request) -> Response:
        token = current_token()
        asked.set()
        await token.wait_async()
        return StreamingResponse(ticking(), media_type=EVENT_STREAM)

    with serving(watched.serve(handler, grace_period=0.05), kind) as port:
        with Client(port) as client:
            client.ask()
            assert asked.wait(PATIENCE)
        report = watched.report()
    assert (report.outcome, report.bytes_sent) == ("incomplete", 0)
    assert [r for r in caplog.records if r.exc_info or r.levelno > logging.INFO] == []


@each_kind
def test_blocking_handler_that_does_not_stream_sees_its_token_cancelled(kind: Kind) -> None:
    """A plain `def` handler, which runs in a thread, can stop: nobody will read its JSON."""
    watched = Watched()
    asked = threading.Event()
    cancelled: list[bool] = []

    def handler(request: Request) -> Response:
        token = current_token()
        asked.set()
        cancelled.append(token.wait(PATIENCE))
        return JSONResponse({})

    with serving(watched.serve(handler), kind) as port:
        with Client(port) as client:
            client.ask()
            assert asked.wait(PATIENCE)
        watched.report()
    assert cancelled == [True]
