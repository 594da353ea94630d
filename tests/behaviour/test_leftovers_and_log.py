"""When the middleware returns, nothing of it is left (F9). The log has one line (F8)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import anyio
import pytest
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sse_batching import (
    CancellationToken,
    SSEBatchingMiddleware,
    StreamReport,
    current_token,
    get_token,
)
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import Emit, chunk, converse, emitting, last, sending, start, streaming
from tests.support.endings import CAUSES, SEND_TIMEOUT, Cause, Ticking
from tests.support.leftovers import leftovers_settled, living_tasks, pending_timers
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]


class Around:
    """Takes the place of the server, and compares what exists before the app and after it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.new_tasks: set[object] | None = None
        self.new_timers: set[object] | None = None
        self.new_keys: set[str] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tasks, timers, keys = living_tasks(), pending_timers(), set(scope)
        try:
            await self._app(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await leftovers_settled()
            self.new_tasks = living_tasks() - tasks
            self.new_timers = pending_timers() - timers
            self.new_keys = set(scope) - keys
            with pytest.raises(LookupError):
                current_token()


async def completes(emit: Emit) -> None:
    current_token()
    await emit(b"a")
    await advance(0.03125)
    await emit(b"b")
    await emit(b"c")  # pending, with a timer


async def raises(emit: Emit) -> None:
    await completes(emit)
    raise RuntimeError("the app's own trouble")


async def listens(scope: Scope, receive: Receive, send: Send) -> None:
    current_token()
    await send(start())
    with anyio.move_on_after(1):
        while True:
            await receive()
    await send(last())


async def stops_in_the_middle(scope: Scope, receive: Receive, send: Send) -> None:
    current_token()
    await send(start())
    await send(chunk(b"a"))
    await send(chunk(b"b"))


async def has_a_token_only(scope: Scope, receive: Receive, send: Send) -> None:
    current_token()
    await send(start(b"text/plain"))
    await send(last(b"a"))


APPS: dict[str, ASGIApp] = {
    "completes": streaming(completes),
    "raises": streaming(raises),
    "listens": listens,
    "stops-in-the-middle": stops_in_the_middle,
    "has-a-token-only": has_a_token_only,
    "does-not-stream": sending(start(b"text/plain"), last(b"a")),
    "sends-nothing": sending(),
}


@pytest.mark.parametrize("app", APPS.values(), ids=APPS)
async def test_nothing_is_left_of_a_request(app: ASGIApp) -> None:
    """However the app ends, it leaves no task, timer, key in the scope or context variable.
    Pitfall 49."""
    server = Around(SSEBatchingMiddleware(app, keepalive_interval=60))
    async with Conversation(server) as talk:
        await talk.ended()
    assert (server.new_tasks, server.new_timers, server.new_keys) == (set(), set(), set())


@pytest.mark.parametrize("cause", CAUSES, ids=str)
@pytest.mark.parametrize("asks", [False, True], ids=["", "token"])
async def test_nothing_is_left_of_a_stream_that_was_cut(asks: bool, cause: Cause) -> None:
    """A stream that ends early leaves nothing either, whatever the cause. Pitfall 49."""
    server = Around(
        SSEBatchingMiddleware(Ticking(asks=asks), send_timeout=SEND_TIMEOUT, keepalive_interval=60)
    )
    async with Conversation(server) as talk:
        await advance(1.125)
        cause.provoke(talk)
        await talk.ended()
    assert (server.new_tasks, server.new_timers, server.new_keys) == (set(), set(), set())


async def test_a_token_of_the_past_is_not_found_again() -> None:
    """After the request, neither its scope nor its context has a token. A token that the app has
    kept is not cancelled by later events."""
    kept: list[CancellationToken] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kept.append(get_token(scope))
        await emitting(b"a", b"b")(scope, receive, send)

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await talk.ended()
        talk.leave()
        await advance(10)
    with pytest.raises(LookupError):
        get_token(talk.scope)
    assert not kept[0].cancelled


async def test_the_middleware_registers_nothing_with_the_token_of_a_request() -> None:
    """An app that keeps a token does not keep the request alive with it. Pitfall 31."""
    counts: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        await emitting(b"a", 1.0)(scope, receive, send)
        counts.append(len(token._callbacks))

    await converse(SSEBatchingMiddleware(app))
    assert counts == [0]


@pytest.mark.parametrize("cause", CAUSES, ids=str)
async def test_a_disconnect_makes_one_line_in_the_log(
    cause: Cause, caplog: pytest.LogCaptureFixture
) -> None:
    """The line has level INFO, the id of the stream, the reason, the bytes and the time. No other
    logger writes anything. Pitfall 9."""
    caplog.set_level(logging.INFO)
    reports: list[StreamReport] = []
    middleware = SSEBatchingMiddleware(
        Ticking(), send_timeout=SEND_TIMEOUT, on_close=reports.append
    )
    async with Conversation(middleware) as talk:
        await advance(1.125)
        cause.provoke(talk)
        await talk.ended()
    (record,) = [record for record in caplog.records if record.levelno >= logging.INFO]
    (report,) = reports
    assert (record.name, record.levelno, record.exc_info) == ("sse_batching", logging.INFO, None)
    text = record.getMessage()
    assert report.stream_id in text
    assert f"({cause.reason})" in text
    assert f"{report.bytes_sent} bytes sent, {report.bytes_undelivered} undelivered" in text
    assert report.cancel_latency is not None
    assert f"after {report.duration - report.cancel_latency:.3f} s" in text


async def agent(emit: Emit) -> None:
    for number in range(1000):
        current_token().raise_if_cancelled()
        await emit(b"data: %d\n\n" % number)
        await advance(0.25)


async def generate() -> AsyncIterator[bytes]:
    for number in range(1000):
        yield b"data: %d\n\n" % number
        await advance(0.25)


async def in_a_group(emit: Emit) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(agent, emit)
        tasks.start_soon(agent, emit)


QUIET: dict[str, ASGIApp] = {
    "raises-when-cancelled": streaming(agent),
    "in-a-task-group": streaming(in_a_group),
    "starlette": StreamingResponse(generate(), media_type="text/event-stream"),
}


@pytest.mark.parametrize("app", QUIET.values(), ids=QUIET)
async def test_what_an_app_raises_for_a_disconnect_is_no_news_to_the_server(
    app: ASGIApp, caplog: pytest.LogCaptureFixture
) -> None:
    """`ClientDisconnected`, `StreamCancelled` and groups of them are swallowed, and make no
    traceback. Pitfalls 9 and 66."""
    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await advance(1.125)
        talk.leave()
        await talk.ended()
    assert talk.error is None
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_what_an_app_raises_in_its_cleanup_goes_on() -> None:
    """Another exception of the app is not hidden, although it follows a disconnect."""
    error = ValueError("cannot save the partial answer")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await current_token().wait_async()
        raise error

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await advance(1)
        talk.leave()
        await talk.ended()
    assert talk.error is error


async def test_a_callback_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The exception is logged, the other callbacks are called, and the stream is closed as usual.
    Pitfall 28."""
    called: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        token.register(called.append, "first")
        token.register(fail)
        token.register(called.append, "last")
        await send(start())
        await send(chunk(b"a"))
        await token.wait_async()
        await send(chunk(b"b"))

    def fail() -> None:
        raise ValueError("a fault in a callback")

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await advance(1)
        talk.leave()
        await talk.ended()
    assert called == ["first", "last"]
    assert talk.error is None
    assert [r.levelname for r in caplog.records if r.exc_info] == ["ERROR"]


async def test_a_stream_that_completes_makes_no_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log has no line of level INFO or above."""
    caplog.set_level(logging.INFO)
    await converse(SSEBatchingMiddleware(emitting(b"a", 1.0, b"b")))
    assert caplog.records == []
