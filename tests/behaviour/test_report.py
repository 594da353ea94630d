"""The report of a stream: every number, for each way in which a stream can end."""

from __future__ import annotations

import dataclasses
import re
from contextlib import suppress

import anyio
import pytest
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
from tests.support.apps import Emit, chunk, converse, emitting, last, sending, start, streaming
from tests.support.endings import RESET
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

DELAY = 0.25


async def test_the_report_of_a_stream_that_completed() -> None:
    """Every number is exact, with an app that goes on for a while after its response.
    Pitfall 47."""
    reports: list[StreamReport] = []
    ids: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        ids.append(current_stream().id)
        await advance(1)
        await send(start())
        await advance(0.5)
        await send(chunk(b"first"))
        await advance(0.1875)
        await send(chunk(b"second"))
        await advance(0.0625)
        await send(chunk(b"third"))
        await advance(1)
        await send(last(b"end"))
        await advance(2)

    await converse(
        SSEBatchingMiddleware(app, max_delay=DELAY, record_bytes=1000, on_close=reports.append)
    )
    assert reports == [
        StreamReport(
            stream_id=ids[0],
            outcome="completed",
            reason=None,
            error=None,
            chunks=4,
            bytes_in=19,
            writes=3,
            bytes_sent=19,
            bytes_undelivered=0,
            time_to_first_chunk=1.5,
            duration=4.75,
            longest_delay=0.1875,
            cancel_latency=None,
            recorded=b"firstsecondthirdend",
            recorded_all=True,
        )
    ]
    assert re.fullmatch("[0-9a-f]{32}", ids[0])


async def test_the_report_of_a_stream_whose_client_left() -> None:
    """The pending batch counts as undelivered, and the time that the app takes to stop is measured.
    Pitfalls 27 and 65."""
    reports: list[StreamReport] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        await send(start())
        await send(chunk(b"first"))
        await advance(0.1875)
        await send(chunk(b"second"))
        await token.wait_async()
        await advance(2)

    middleware = SSEBatchingMiddleware(
        app, max_delay=DELAY, record_bytes=8, on_close=reports.append
    )
    async with Conversation(middleware) as talk:
        await advance(0.25)
        talk.leave()
        await talk.ended()
    (report,) = reports
    assert dataclasses.replace(report, stream_id="") == StreamReport(
        stream_id="",
        outcome="incomplete",
        reason=CancelReason.CLIENT_DISCONNECTED,
        error=None,
        chunks=2,
        bytes_in=11,
        writes=1,
        bytes_sent=5,
        bytes_undelivered=6,
        time_to_first_chunk=0,
        duration=2.25,
        longest_delay=0,
        cancel_latency=2,
        recorded=b"firstsec",
        recorded_all=False,
    )


async def test_the_report_of_a_stream_whose_write_failed() -> None:
    """The failed batch and the chunks behind it count as undelivered."""
    reports: list[StreamReport] = []

    async def work(emit: Emit) -> None:
        await emit(b"first")
        await advance(1)
        talk.stall()
        await emit(b"second")
        await advance(1)
        await emit(b"third")
        talk.fail_writes(RESET)
        talk.resume()
        await advance(1)

    app = SSEBatchingMiddleware(streaming(work), on_close=reports.append)
    async with Conversation(app) as talk:
        await talk.ended()
    (report,) = reports
    assert (report.outcome, report.reason) == ("incomplete", CancelReason.SEND_FAILED)
    assert report.error is RESET
    assert (report.chunks, report.bytes_in) == (3, 16)
    assert (report.writes, report.bytes_sent, report.bytes_undelivered) == (1, 5, 11)
    assert (report.duration, report.cancel_latency) == (3, 1)


async def test_the_longest_delay_is_that_of_the_byte_that_waited_longest() -> None:
    """With a slow client, the longest delay exceeds `max_delay`."""
    reports: list[StreamReport] = []

    async def work(emit: Emit) -> None:
        await emit(b"first")
        await advance(1)
        talk.stall()
        await emit(b"second")
        await advance(0.5)
        await emit(b"third")
        await advance(3)
        talk.resume()
        await advance(1)

    app = SSEBatchingMiddleware(streaming(work), max_delay=DELAY, on_close=reports.append)
    async with Conversation(app) as talk:
        await talk.ended()
    assert [report.longest_delay for report in reports] == [3]


async def test_an_app_that_raises_has_failed() -> None:
    """The exception of the app is in the report, and all chunks before it were delivered."""
    reports: list[StreamReport] = []
    error = ValueError("the app's own trouble")

    async def work(emit: Emit) -> None:
        await emit(b"first")
        raise error

    app = SSEBatchingMiddleware(streaming(work), on_close=reports.append)
    async with Conversation(app) as talk:
        await talk.ended()
    (report,) = reports
    assert (report.outcome, report.reason, report.error) == ("failed", None, error)
    assert (report.bytes_sent, report.bytes_undelivered, report.cancel_latency) == (5, 0, None)


async def test_a_stream_without_a_chunk_has_no_time_to_its_first() -> None:
    """`time_to_first_chunk` is None if no chunk came."""
    reports: list[StreamReport] = []
    await converse(SSEBatchingMiddleware(sending(start(), last()), on_close=reports.append))
    (report,) = reports
    assert (report.outcome, report.chunks, report.time_to_first_chunk) == ("completed", 0, None)
    assert (report.recorded, report.recorded_all) == (b"", True)


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(chunk(b"ab"), id="chunk"),
        pytest.param({**chunk(b"ab"), "x.trace": "42"}, id="with-an-unknown-key"),
        pytest.param(last(b"ab"), id="last"),
    ],
)
@pytest.mark.parametrize("empty", [True, False], ids=["behind-an-empty-chunk", "first"])
async def test_the_first_chunk_is_the_first_with_a_body(first: Message, empty: bool) -> None:
    """An empty chunk at the beginning sends the headers on some servers, and does not count. Any
    other body does."""
    reports: list[StreamReport] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        if empty:
            await send(chunk(b""))
        await advance(1)
        await send(first)
        await advance(1)
        if first["more_body"]:
            await send({**chunk(b""), "x.trace": "42"})
            await send(chunk(b""))
            await send(last())

    await converse(SSEBatchingMiddleware(app, on_close=reports.append))

    (report,) = reports
    assert (report.chunks, report.bytes_in, report.time_to_first_chunk) == (1, 2, 1)


async def test_body_messages_that_pass_untouched_count_too() -> None:
    """A body message with a key that ASGI does not know counts as a chunk, too."""
    reports: list[StreamReport] = []
    app = sending(start(), chunk(b"ab"), {**chunk(b"cd"), "x.trace": "42"}, last(b"ef"))
    middleware = SSEBatchingMiddleware(app, record_bytes=10, on_close=reports.append)
    talk = await converse(middleware)
    (report,) = reports
    assert talk.body == b"abcdef"
    assert (report.chunks, report.bytes_in) == (3, 6)
    assert (report.writes, report.bytes_sent) == (3, 6)
    assert (report.recorded, report.recorded_all) == (b"abcdef", True)


@pytest.mark.parametrize(
    ("record_bytes", "recorded", "recorded_all"),
    [(0, b"", False), (1, b"a", False), (4, b"abcd", False), (6, b"abcdef", True)],
)
async def test_the_first_bytes_are_recorded(
    record_bytes: int, recorded: bytes, recorded_all: bool
) -> None:
    """`record_bytes` bytes are kept, without regard to the ends of chunks and writes. The last
    chunk counts as well. Pitfall 27."""
    reports: list[StreamReport] = []
    app = sending(start(), chunk(bytearray(b"abc")), chunk(memoryview(b"de")), last(b"f"))
    await converse(
        SSEBatchingMiddleware(
            app, record_bytes=record_bytes, keepalive_interval=60, on_close=reports.append
        )
    )
    assert [(r.recorded, r.recorded_all) for r in reports] == [(recorded, recorded_all)]


# When the report is made.


@pytest.mark.parametrize("awaits", [False, True])
async def test_on_close_may_be_a_function_or_a_coroutine_function(awaits: bool) -> None:
    """Either kind is called once, and the request ends after it."""
    reports: list[StreamReport] = []

    async def keep(report: StreamReport) -> None:
        await advance(1)
        reports.append(report)

    app = SSEBatchingMiddleware(
        emitting(b"a"), on_close=keep if awaits else lambda report: reports.append(report)
    )
    async with Conversation(app) as talk:
        await talk.ended()
        assert len(reports) == 1


@pytest.mark.parametrize("awaits", [False, True])
async def test_a_failure_of_on_close_is_logged_and_harms_nothing(
    awaits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The response is complete, and the exception does not reach the server. Pitfall 28."""

    def fail(report: StreamReport) -> None:
        raise ValueError("no database")

    async def fail_later(report: StreamReport) -> None:
        await advance(1)
        raise ValueError("no database")

    app = SSEBatchingMiddleware(emitting(b"a"), on_close=fail_later if awaits else fail)
    talk = await converse(app)
    assert talk.completed
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("ERROR", "sse_batching")
    assert record.exc_info is not None


@pytest.mark.parametrize("asks", [False, True])
async def test_a_request_that_does_not_stream_has_no_report(asks: bool) -> None:
    """A plain response makes no report, whether or not the app has asked for its token."""
    reports: list[StreamReport] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if asks:
            current_token()
        await send(start(b"text/plain"))
        await send(last(b"a"))

    await converse(SSEBatchingMiddleware(app, on_close=reports.append))
    assert reports == []


async def test_a_request_whose_client_left_before_its_response_has_a_report() -> None:
    """A report is made if the app had asked for its token. The agent may have been expensive."""
    reports: list[StreamReport] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await current_token().wait_async()
        await advance(1)

    async with Conversation(SSEBatchingMiddleware(app, on_close=reports.append)) as talk:
        await advance(2)
        talk.leave()
        await talk.ended()
    (report,) = reports
    assert (report.outcome, report.reason) == ("incomplete", CancelReason.CLIENT_DISCONNECTED)
    assert (report.duration, report.cancel_latency) == (3, 1)
    assert (report.chunks, report.time_to_first_chunk, report.recorded_all) == (0, None, True)


async def test_a_write_that_was_given_up_counts_once() -> None:
    """A write that succeeds after the client left counts as undelivered.

    The `send` of some servers cannot be cancelled (hypercorn on trio)."""
    reports: list[StreamReport] = []

    async def stubborn(index: int, message: Message) -> None:
        if message.get("body"):
            ends = anyio.current_time() + 0.5
            while anyio.current_time() < ends:
                # asyncio's cancellations break a shield, trio's come back until it is there.
                with suppress(anyio.get_cancelled_exc_class()), anyio.CancelScope(shield=True):
                    await advance(ends - anyio.current_time())

    async def work(emit: Emit) -> None:
        await emit(b"data: 1\n\n")
        await current_token().wait_async()

    app = SSEBatchingMiddleware(streaming(work), on_close=reports.append)
    async with Conversation(app, on_send=stubborn) as talk:
        await advance(0.25)
        talk.leave()
        await talk.ended()
    (report,) = reports
    assert (report.bytes_in, report.bytes_sent, report.bytes_undelivered) == (9, 0, 9)


async def test_the_report_of_a_request_that_its_own_app_has_stopped() -> None:
    """The reason is that of the token, also if the app's task was cancelled as the server does."""
    reports: list[StreamReport] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(chunk(b"first"))
        current_token().cancel(message="the stop button")
        talk.cancel()  # by a thread that waits for the token, for example
        await anyio.sleep_forever()

    async with Conversation(SSEBatchingMiddleware(app, on_close=reports.append)) as talk:
        await talk.ended()

    (report,) = reports
    assert (report.reason, report.outcome) == (CancelReason.REQUESTED, "incomplete")
    assert report.bytes_sent == 5
