"""A batch that was lost is never followed by more: a client would take the rest for the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

import anyio
import pytest
import trio
from starlette.types import Message, Receive, Scope, Send

from sse_batching import (
    CancelReason,
    SSEBatchingMiddleware,
    StreamReport,
    current_stream,
    current_token,
)
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import chunk, last, start
from tests.support.leftovers import leftovers_settled, living_tasks, pending_timers
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

Deliver: TypeAlias = Callable[[Send], Awaitable[None]]


async def flush(send: Send) -> None:
    await current_stream().flush()


async def an_unbatched_chunk(send: Send) -> None:
    current_stream().configure(enabled=False)
    await send(chunk(b"C"))


async def an_unusual_message(send: Send) -> None:
    await send({**chunk(b"C"), "x.trace": "42"})


async def a_message_without_a_body(send: Send) -> None:
    await send({"type": "http.response.debug", "info": {}})


async def the_last_message(send: Send) -> None:
    await send(last(b"C"))


@pytest.mark.parametrize("listens", [False, True], ids=["sends-only", "waits-in-receive"])
@pytest.mark.parametrize(
    "deliver",
    [flush, an_unbatched_chunk, an_unusual_message, a_message_without_a_body, the_last_message],
)
async def test_a_stream_that_lost_a_batch_is_closed_also_for_those_who_do_not_wait(
    deliver: Deliver, listens: bool
) -> None:
    """The sender that waits for the write gets its exception. The bytes of other sends are lost, so
    the token is cancelled, later sends are rejected, and the report does not say `completed`."""
    error = RuntimeError("the audit log is locked")
    raised: list[BaseException] = []
    reports: list[StreamReport] = []

    async def locked(number: int, message: Message) -> None:
        if b"B" in message.get("body", b""):
            raise error

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def work() -> None:
            token = current_token()
            await send(start())
            await send(chunk(b"A"))
            await advance(0.001)
            await send(chunk(b"B"))  # accepted, and not yet due
            for step in (deliver, the_last_message):
                try:
                    await step(send)
                except Exception as caught:  # noqa: BLE001
                    raised.append(caught)
            assert token.reason is CancelReason.SEND_FAILED

        async def listen() -> None:
            await receive()

        async with anyio.create_task_group() as tasks:
            if listens:
                tasks.start_soon(listen)
            await work()
            tasks.cancel_scope.cancel()

    middleware = SSEBatchingMiddleware(app, on_close=reports.append)
    async with Conversation(middleware, on_send=locked) as talk:
        await talk.ended()

    assert raised[0] is error
    assert talk.body == b"A"
    (report,) = reports
    assert (report.outcome, report.error) == ("failed", error)
    assert report.bytes_in == report.bytes_sent + report.bytes_undelivered


async def test_a_message_that_the_server_refuses_leaves_the_stream_open() -> None:
    """Nothing is lost with a message that carries no accepted bytes. Its sender alone gets the
    exception, as without the middleware."""
    reports: list[StreamReport] = []

    async def strict(number: int, message: Message) -> None:
        if message["type"] == "http.response.unheard-of":
            raise RuntimeError("unexpected message")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(chunk(b"A"))
        await advance(1)
        with pytest.raises(RuntimeError, match="unexpected message"):
            await send({"type": "http.response.unheard-of"})
        await send(last(b"B"))

    middleware = SSEBatchingMiddleware(app, on_close=reports.append)
    async with Conversation(middleware, on_send=strict) as talk:
        await talk.ended()

    assert (talk.body, talk.error) == (b"AB", None)
    assert [report.outcome for report in reports] == ["completed"]


async def test_the_rest_is_not_written_if_a_write_fails_during_a_shutdown() -> None:
    """What is buffered is still written if the server cancels the request, up to the first write
    that fails."""
    reports: list[StreamReport] = []

    async def broken(number: int, message: Message) -> None:
        if message.get("body") == b"A":
            await advance(0.25)
            raise ConnectionResetError

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(chunk(b"A"))
        await advance(0.125)
        await send(chunk(b"B"))
        await send(last(b"C"))

    middleware = SSEBatchingMiddleware(app, on_close=reports.append)
    async with Conversation(middleware, on_send=broken) as talk:
        await advance(0.1875)
        talk.cancel()
        await talk.ended()

    assert [sent.message for sent in talk.sent] == [start()]
    assert [(report.reason, report.bytes_undelivered) for report in reports] == [
        (CancelReason.SERVER_SHUTDOWN, 3)
    ]


async def outlive_cancellation(seconds: float) -> None:
    """Wait as a `send` does that shields its write."""
    if trio.lowlevel.in_trio_task():
        with anyio.CancelScope(shield=True):
            await anyio.sleep(seconds)
        return
    work = asyncio.ensure_future(asyncio.sleep(seconds))
    while not work.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(work)


async def test_a_stream_that_stalled_never_gets_its_end() -> None:
    """A `send` that outlives its cancellation may deliver its batch. The batch behind it is lost,
    so the last message, which waited behind it, is not written. Nothing is left of the request."""
    before = (living_tasks(), pending_timers())
    reports: list[StreamReport] = []

    async def slow(number: int, message: Message) -> None:
        if message.get("body") == b"B":
            await outlive_cancellation(3)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(chunk(b"A"))
        await advance(1)
        await send(chunk(b"B"))
        await advance(0.125)
        await send(chunk(b"C"))  # gathers behind the write
        await send(last(b"D"))

    middleware = SSEBatchingMiddleware(app, send_timeout=2.5, on_close=reports.append)
    async with Conversation(middleware, on_send=slow) as talk:
        await talk.ended()
    await advance(2)  # the `send` has returned by now
    await leftovers_settled()

    assert (living_tasks(), pending_timers()) == before
    assert [sent.message for sent in talk.sent] == [start(), chunk(b"A"), chunk(b"B")]
    assert [(report.reason, report.bytes_undelivered) for report in reports] == [
        (CancelReason.SEND_TIMEOUT, 3)
    ]
