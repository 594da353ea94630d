"""The first cause closes the stream, once. From then on `send` raises (F1, F2)."""

from __future__ import annotations

from itertools import permutations

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from sse_batching import (
    CancelReason,
    ClientDisconnected,
    SSEBatchingMiddleware,
    StreamReport,
    current_stream,
    current_token,
)
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import Emit, chunk, ends_at_once, last, start, streaming
from tests.support.endings import (
    CANCELLED,
    CAUSES,
    FAILED,
    LEFT,
    RESET,
    SEND_TIMEOUT,
    STALLED,
    Cause,
    Ticking,
)
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

PAIRS = [pytest.param(*pair, id=f"{pair[0]}-{pair[1]}") for pair in permutations(CAUSES, 2)]


@pytest.mark.parametrize("cause", CAUSES, ids=str)
async def test_each_cause_cancels_the_token_once(cause: Cause) -> None:
    """The token is cancelled once. The token, the app's `send` and the report state the same cause.
    Pitfall 8."""
    app = Ticking()
    reports: list[StreamReport] = []
    middleware = SSEBatchingMiddleware(app, send_timeout=SEND_TIMEOUT, on_close=reports.append)
    async with Conversation(middleware) as talk:
        await advance(1.125)
        cause.provoke(talk)
        await talk.ended()
    assert talk.error is None
    assert app.cancellations == [(cause.reason, cause.message, cause.error)]
    assert [report.reason for report in reports] == [cause.reason]
    assert [report.outcome for report in reports] == ["incomplete"]
    for error in app.raised:
        assert isinstance(error, ClientDisconnected)
        assert (error.reason, str(error), error.__cause__) == (
            cause.reason,
            cause.message,
            cause.error,
        )
    assert len(app.raised) == (0 if cause is CANCELLED else 3)


@pytest.mark.parametrize(("first", "second"), PAIRS)
async def test_later_causes_change_nothing(first: Cause, second: Cause) -> None:
    """A cause that comes after the first one, while the app still cleans up, is ignored."""
    app = Ticking()
    reports: list[StreamReport] = []
    middleware = SSEBatchingMiddleware(app, send_timeout=SEND_TIMEOUT, on_close=reports.append)
    async with Conversation(middleware) as talk:
        await advance(1.125)
        first.provoke(talk)
        await talk.until(lambda: app.cancellations)
        second.provoke(talk)
        await talk.ended()
    assert [reason for reason, *_ in app.cancellations] == [first.reason]
    assert [report.reason for report in reports] == [first.reason]


@pytest.mark.parametrize("iterations", range(5))
@pytest.mark.parametrize(("first", "second"), PAIRS)
async def test_of_two_causes_at_once_one_counts(
    first: Cause, second: Cause, iterations: int
) -> None:
    """If two causes come within a few loop iterations, the token, `send` and the report state the
    same one of them, once."""
    app = Ticking()
    reports: list[StreamReport] = []
    middleware = SSEBatchingMiddleware(app, send_timeout=SEND_TIMEOUT, on_close=reports.append)
    async with Conversation(middleware) as talk:
        await advance(1.25)  # just as the app sends, and a write begins
        first.provoke(talk)
        for _ in range(iterations):
            await anyio.lowlevel.checkpoint()
        second.provoke(talk)
        await talk.ended()
    assert talk.error is None
    ((reason, *_),) = app.cancellations
    assert reason in {first.reason, second.reason}
    assert [report.reason for report in reports] == [reason]
    assert all(isinstance(e, ClientDisconnected) and e.reason == reason for e in app.raised)


async def test_a_failed_write_in_the_background_reaches_an_app_that_waits() -> None:
    """An app that sends nothing and waits for its agent learns from its token that a write failed,
    at the time of the failure. Pitfall 39."""
    failed_after: list[float] = []

    async def work(emit: Emit) -> None:
        await emit(b"a")
        await advance(0.1875)
        await emit(b"b")  # due at 0.375
        began = anyio.current_time()
        talk.fail_writes(RESET)
        await current_token().wait_async()
        failed_after.append(anyio.current_time() - began)
        with pytest.raises(ClientDisconnected) as caught:
            await emit(b"c")
        assert caught.value.__cause__ is RESET
        raise caught.value

    app = SSEBatchingMiddleware(streaming(work), max_delay=0.25)
    async with Conversation(app) as talk:
        await talk.ended()
    assert failed_after == [0.1875]
    assert talk.error is None


async def test_a_failed_write_is_raised_by_a_send_that_waits_for_the_buffer_to_drain() -> None:
    """A `send` that waits for the buffer to drain raises when the write in flight fails.
    Pitfall 58."""
    raised: list[BaseException] = []

    async def work(emit: Emit) -> None:
        await emit(b"a")
        talk.stall()
        try:
            for _ in range(100):
                await emit(b"x" * 100)
        except ClientDisconnected as error:
            raised.append(error)

    app = SSEBatchingMiddleware(streaming(work), max_batch_bytes=1000, max_delay=0)
    async with Conversation(app) as talk:
        await advance(1)
        assert raised == []
        talk.fail_writes(RESET)
        talk.resume()
        await talk.ended()
    assert [error.__cause__ for error in raised] == [RESET]


@pytest.mark.parametrize("cause", [LEFT, FAILED, STALLED], ids=str)
async def test_a_failure_of_the_last_write_is_raised_by_the_last_send(cause: Cause) -> None:
    """The `send` of the last message raises if the last write fails, stalls, or does not return
    after a disconnect. On some servers it never returns (hypercorn, HTTP/2)."""
    raised: list[BaseException] = []
    cancellations: list[CancelReason | None] = []
    reports: list[StreamReport] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        token.register(lambda: cancellations.append(token.reason))
        await send(start())
        await send(chunk(b"a"))
        try:
            await send(last(b"b"))
        except ClientDisconnected as error:
            raised.append(error)

    async def last_write(index: int, message: Message) -> None:
        if index == 1:
            cause.provoke(talk)
            if cause is LEFT:
                await anyio.sleep_forever()

    middleware = SSEBatchingMiddleware(app, send_timeout=SEND_TIMEOUT, on_close=reports.append)
    async with Conversation(middleware, on_send=last_write) as talk:
        await talk.ended()
    assert cancellations == [cause.reason]
    assert [(type(e), e.__cause__) for e in raised] == [(ClientDisconnected, cause.error)]
    (report,) = reports
    assert (report.outcome, report.bytes_in, report.bytes_undelivered) == ("incomplete", 2, 2)


async def test_a_write_that_takes_as_long_as_the_timeout_has_stalled() -> None:
    """The token is cancelled exactly `send_timeout` after the write began. Pitfall 13."""
    app = Ticking()
    cancelled_after: list[float] = []

    async def note_time(index: int, message: Message) -> None:
        if index == 5:
            began = anyio.current_time()
            assert app.token is not None
            app.token.register(lambda: cancelled_after.append(anyio.current_time() - began))
            await anyio.sleep_forever()

    async with Conversation(SSEBatchingMiddleware(app, send_timeout=2), on_send=note_time) as talk:
        await talk.ended()
    assert cancelled_after == [2]


@pytest.mark.parametrize("send_timeout", [2, None])
async def test_a_slow_client_is_not_disconnected(send_timeout: float | None) -> None:
    """The timeout applies to each write by itself. Without a timeout a write may take any time."""

    async def slow(index: int, message: Message) -> None:
        await advance(1.9375 if send_timeout else 300)

    async def work(emit: Emit) -> None:
        with anyio.CancelScope(shield=True):
            for _ in range(4):
                await emit(b"x" * 10)

    app = SSEBatchingMiddleware(streaming(work), send_timeout=send_timeout, max_batch_bytes=10)
    async with Conversation(app, on_send=slow) as talk:
        while not talk.completed:
            await advance(9)
    assert talk.body == b"x" * 40
    assert talk.error is None


async def test_one_send_is_ignored_if_the_app_waits_in_receive() -> None:
    """After a disconnect one `send` returns at once, without effect, and later ones raise.

    So the framework can cancel its generator at an `await` of the generator's own.
    """
    returned: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen, receive)
            await advance(1)
            talk.leave()
            await advance(1)
            for _ in range(3):
                try:
                    returned.append(ends_at_once(send(chunk(b"a"))))
                except ClientDisconnected:
                    returned.append(False)

    async def listen(receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await talk.ended()
    assert returned == [True, False, False]
    assert talk.body == b""


async def test_a_token_cancelled_on_request_keeps_its_reason() -> None:
    """A token that was cancelled on request, by a stop button for example, keeps its reason after a
    disconnect. The stream goes on in between."""
    reports: list[StreamReport] = []

    async def work(emit: Emit) -> None:
        token = current_stream().token
        assert token.cancel(message="stopped")
        await emit(b"data: stopped\n\n")
        await current_stream().flush()
        talk.leave()
        await advance(1)
        assert token.reason is CancelReason.REQUESTED
        with pytest.raises(ClientDisconnected):
            await emit(b"data: more\n\n")

    middleware = SSEBatchingMiddleware(streaming(work), on_close=reports.append)
    async with Conversation(middleware) as talk:
        await talk.ended()
    assert talk.error is None
    assert talk.body == b"data: stopped\n\n"
    assert [report.reason for report in reports] == [CancelReason.CLIENT_DISCONNECTED]


async def test_the_end_of_a_response_is_no_disconnect() -> None:
    """The `http.disconnect` that servers send after each response cancels neither the token of that
    request nor the next request. Pitfall 3."""
    after: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        await send(start())
        await send(chunk(b"a"))
        await send(last())
        await advance(60)
        after.append(token.cancelled)

    middleware = SSEBatchingMiddleware(app)
    for _ in range(2):
        async with Conversation(middleware):
            await advance(70)
    assert after == [False, False]


async def test_a_disconnect_just_before_the_last_write_returns_is_ignored() -> None:
    """A disconnect during the last write does not cancel the token if that write returns. Some
    servers send `http.disconnect` that early (hypercorn on trio)."""
    cancelled: list[bool] = []
    reports: list[StreamReport] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        await send(start())
        await send(chunk(b"a"))
        await send(last())
        cancelled.append(token.cancelled)
        await advance(60)
        cancelled.append(token.cancelled)

    async def last_write(index: int, message: Message) -> None:
        if index == 1:
            talk.leave()
            await advance(0.25)

    middleware = SSEBatchingMiddleware(app, on_close=reports.append)
    async with Conversation(middleware, on_send=last_write) as talk:
        await advance(70)
    assert cancelled == [False, False]
    assert [(report.outcome, report.reason) for report in reports] == [("completed", None)]
