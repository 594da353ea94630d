"""The server, or a middleware around this one, cancels the request (F1, F5, F11)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sse_batching import (
    CancellationToken,
    CancelReason,
    SSEBatchingMiddleware,
    StreamReport,
    current_stream,
    current_token,
)
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_ASYNCIO, VIRTUAL_TIME, loops
from tests.support.apps import Emit, chunk, last, start, streaming
from tests.support.endings import AsTask
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]


class Kept:
    """A place where the app keeps its token."""

    token: CancellationToken | None = None

    def keep(self) -> None:
        self.token = current_token()

    @property
    def reason(self) -> CancelReason | None:
        assert self.token is not None
        return self.token.reason


def waiting_for_its_agent(kept: Kept) -> ASGIApp:
    async def work(emit: Emit) -> None:
        kept.keep()
        await emit(b"data: 1\n\n")
        await advance(0.25)
        await emit(b"data: 2\n\n")
        await anyio.sleep(1000)

    return streaming(work)


def waiting_in_receive(kept: Kept) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kept.keep()
        await receive()
        await send(start())
        await receive()

    return app


def waiting_for_the_first_token(kept: Kept) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kept.keep()
        await anyio.sleep(1000)

    return app


def waiting_for_room(kept: Kept) -> ASGIApp:
    async def work(emit: Emit) -> None:
        kept.keep()
        await emit(b"x" * 100_000)
        await emit(b"x" * 100_000)

    return streaming(work)


def starlette(kept: Kept) -> ASGIApp:
    async def generate() -> AsyncIterator[bytes]:
        kept.keep()
        yield b"data: 1\n\n"
        await anyio.sleep(1000)

    return StreamingResponse(generate(), media_type="text/event-stream")


APPS = [
    waiting_for_its_agent,
    waiting_in_receive,
    waiting_for_the_first_token,
    waiting_for_room,
    starlette,
]


@loops(VIRTUAL_ASYNCIO, because="servers on trio wait until the app has ended")
@pytest.mark.parametrize("make", APPS)
async def test_a_cancelled_task_cancels_the_token_within_an_iteration(make: Any) -> None:
    """The token is cancelled within one loop iteration, and the cancellation goes on to the server.

    A server whose shutdown times out leaves the app no more time than that. Pitfall 22."""
    kept = Kept()
    server = AsTask(SSEBatchingMiddleware(make(kept)))
    async with Conversation(server) as talk:
        await talk.until(lambda: kept.token)
        if make is waiting_for_room:
            talk.stall()
        await advance(1)
        assert kept.reason is None
        server.task.cancel()
        await asyncio.sleep(0)  # the cancellation arrives
        await asyncio.sleep(0)  # the one iteration
        assert kept.reason is CancelReason.SERVER_SHUTDOWN
        talk.resume()
        await talk.ended()
    assert server.task.cancelled()


@pytest.mark.parametrize("make", APPS)
async def test_a_cancelled_scope_around_the_app_tells_the_token(make: Any) -> None:
    """Servers and middlewares that use anyio cancel a scope, and not the task. Pitfall 22."""
    kept = Kept()
    async with Conversation(SSEBatchingMiddleware(make(kept))) as talk:
        await talk.until(lambda: kept.token)
        if make is waiting_for_room:
            talk.stall()
        await advance(1)
        talk.cancel()
        await talk.ended()
    assert kept.reason is CancelReason.SERVER_SHUTDOWN
    assert talk.error is None


@pytest.mark.parametrize("by_scope", [False, True], ids=["task", "scope"])
async def test_what_was_accepted_before_is_delivered(by_scope: bool) -> None:
    """The client may still be connected, and gets everything that the app has sent. Pitfall 41."""
    reports: list[StreamReport] = []

    async def work(emit: Emit) -> None:
        await emit(b"a")
        await advance(1)
        await emit(b"b")
        await emit(b"c")
        await anyio.sleep(1000)

    app = SSEBatchingMiddleware(streaming(work), max_delay=60, on_close=reports.append)
    server = AsTask(app)
    async with Conversation(app if by_scope else server) as talk:
        await advance(1.5)
        assert talk.body == b"a"
        talk.cancel() if by_scope else server.task.cancel()
        await talk.ended()
    assert talk.body == b"abc"
    (report,) = reports
    assert (report.outcome, report.reason) == ("incomplete", CancelReason.SERVER_SHUTDOWN)
    assert (report.bytes_sent, report.bytes_undelivered) == (3, 0)


async def test_a_client_that_does_not_read_cannot_delay_a_shutdown() -> None:
    """The rest of the stream has one second to be written. Pitfall 53."""
    server = AsTask(SSEBatchingMiddleware(waiting_for_its_agent(Kept()), send_timeout=None))

    async def stall(index: int, message: Any) -> None:
        if index == 1:
            await anyio.sleep(1000)

    async with Conversation(server, on_send=stall) as talk:
        await advance(1)
        server.task.cancel()
        await advance(2.5)
        assert server.task.cancelled()
        await talk.ended()


async def test_the_end_of_the_grace_period_does_not_cut_the_cleaning_up_short() -> None:
    """An app that has ended is not cancelled, and no cancellation by this package remains for the
    server."""
    server = AsTask(
        SSEBatchingMiddleware(waiting_for_its_agent(Kept()), max_delay=60, grace_period=0.25)
    )
    async with Conversation(server) as talk:
        await advance(0.375)  # the second event is due at 0.5
        talk.stall()
        server.task.cancel()
        await advance(0.75)
        talk.resume()
        await talk.ended()
    assert talk.body == b"data: 1\n\ndata: 2\n\n"
    assert server.task.cancelling() == 1


async def test_an_app_that_sends_a_farewell_gets_it_delivered() -> None:
    """Some apps swallow the cancellation and send a last event, which servers still accept.
    Pitfall 50."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(chunk(b"data: 1\n\n"))
        try:
            await anyio.sleep(1000)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):  # asyncio would do without
                await send(last(b"event: bye\ndata:\n\n"))

    server = AsTask(SSEBatchingMiddleware(app))
    async with Conversation(server) as talk:
        await advance(1)
        server.task.cancel()
        await talk.ended()
    assert talk.body == b"data: 1\n\nevent: bye\ndata:\n\n"
    assert talk.completed
    assert not server.task.cancelled()


async def test_a_cancellation_after_the_response_does_not_cancel_the_token() -> None:
    """A cancellation during the work after a complete response does not cancel the token."""
    kept = Kept()
    reports: list[StreamReport] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kept.keep()
        await send(start())
        await send(last(b"data: 1\n\n"))
        await anyio.sleep(1000)

    server = AsTask(SSEBatchingMiddleware(app, on_close=reports.append))
    async with Conversation(server) as talk:
        await advance(1)
        server.task.cancel()
        await talk.ended()
    assert server.task.cancelled()
    assert kept.reason is None
    assert [(report.outcome, report.reason) for report in reports] == [("completed", None)]


async def by_anyio(wait: Callable[[], Awaitable[object]]) -> None:
    with anyio.move_on_after(0.25):
        await wait()


async def by_asyncio(wait: Callable[[], Awaitable[object]]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(0.25):
            await wait()


async def test_timeouts_of_the_app_are_its_own_affair() -> None:
    """If the app itself ends its wait in `receive` or in a flush, that is no shutdown.
    Pitfall 22."""
    await check_timeouts(by_anyio)


@loops(VIRTUAL_ASYNCIO, because="it is asyncio's timeout")
async def test_timeouts_by_asyncio_are_its_own_affair_too() -> None:
    """`asyncio.timeout` cancels the task, and undoes that in the same loop iteration."""
    await check_timeouts(by_asyncio)


async def check_timeouts(give_up: Callable[[Callable[[], Awaitable[object]]], Any]) -> None:

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        await receive()
        await send(start())
        talk.stall()
        await send(chunk(b"a"))
        for wait in (receive, current_stream().flush):
            await give_up(wait)
        talk.resume()
        await advance(1)
        assert not token.cancelled
        await send(last())

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await talk.ended()
    assert talk.error is None
    assert talk.body == b"a"
    assert talk.completed


@loops(VIRTUAL_ASYNCIO, because="Task.cancel is asyncio's")
async def test_a_task_of_the_app_may_be_cancelled_by_the_app() -> None:
    """Only the request's own task counts, and not the tasks that the app starts."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        await receive()
        await send(start())
        reader = asyncio.create_task(read(receive))
        await advance(1)
        reader.cancel()
        await advance(1)
        assert not token.cancelled
        await send(last())

    async def read(receive: Receive) -> None:
        await receive()

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await talk.ended()
    assert talk.error is None
    assert talk.completed


@pytest.mark.parametrize("by_scope", [False, True], ids=["task", "scope"])
async def test_on_close_has_its_time_when_the_server_cancels(by_scope: bool) -> None:
    """`on_close` may need a moment to store a partial answer. The cancellation does not interrupt
    it before the grace period is over. Pitfalls 21 and 53."""
    kept: list[str] = []

    async def keep(report: StreamReport) -> None:
        await advance(1)
        kept.append(report.outcome)
        await anyio.sleep_forever()

    async def work(emit: Emit) -> None:
        await emit(b"a")
        await anyio.sleep(1000)

    app = SSEBatchingMiddleware(streaming(work), on_close=keep, grace_period=2)
    server = AsTask(app)
    async with Conversation(app if by_scope else server) as talk:
        await advance(1)
        talk.cancel() if by_scope else server.task.cancel()
        await talk.ended()
    assert kept == ["incomplete"]
    assert by_scope or server.task.cancelled()
