"""`Stream.flush`, and what `Stream.configure` changes for one response."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from sse_batching import ClientDisconnected, SSEBatchingMiddleware, current_stream
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import Emit, chunk, converse, last, start, streaming, times
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

DELAY = 0.25


async def test_flush_returns_when_what_was_sent_is_delivered() -> None:
    """When `flush` returns, the server has all bytes that the app has sent."""
    bodies: list[bytes] = []

    async def work(emit: Emit) -> None:
        for body in (b"a", b"b", b"c"):
            await emit(body)
        await current_stream().flush()
        bodies.append(talk.body)
        await emit(b"d")
        await current_stream().flush()
        bodies.append(talk.body)

    async with Conversation(SSEBatchingMiddleware(streaming(work), max_delay=60)) as talk:
        await talk.ended()
    assert bodies == [b"abc", b"abcd"]


async def test_flush_waits_for_a_slow_client() -> None:
    """`flush` does not return before the server has taken all bytes."""
    flushed: list[bytes] = []

    async def work(emit: Emit) -> None:
        talk.stall()
        await emit(b"a")
        await emit(b"b")
        await current_stream().flush()
        flushed.append(talk.body)

    async with Conversation(SSEBatchingMiddleware(streaming(work))) as talk:
        await advance(5)
        assert flushed == []
        talk.resume()
        await talk.ended()
    assert flushed == [b"ab"]


async def test_flush_of_an_empty_buffer_writes_nothing() -> None:
    """`flush` without anything buffered neither writes nor raises: before the response, without a
    chunk, twice in a row, and after the end."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await current_stream().flush()
        await send(start())
        await current_stream().flush()
        await send(chunk(b"a"))
        await current_stream().flush()
        await current_stream().flush()
        await send(last())
        await current_stream().flush()

    talk = await converse(SSEBatchingMiddleware(app))
    assert [sent.message for sent in talk.sent] == [start(), chunk(b"a"), last()]


async def test_flush_after_a_failed_write_raises_as_send_does() -> None:
    """`flush` raises `ClientDisconnected`, also when called again, if the batch cannot be
    delivered."""
    raised: list[ClientDisconnected] = []
    reset = ConnectionResetError()

    async def work(emit: Emit) -> None:
        await emit(b"a")
        await current_stream().flush()
        talk.fail_writes(reset)
        await emit(b"b")
        for _ in range(2):
            with pytest.raises(ClientDisconnected) as caught:
                await current_stream().flush()
            raised.append(caught.value)

    async with Conversation(SSEBatchingMiddleware(streaming(work))) as talk:
        await talk.ended()
    assert [error.__cause__ for error in raised] == [reset, reset]


async def test_a_cancelled_flush_takes_nothing_back() -> None:
    """The bytes of a flush that was cancelled are delivered once."""

    async def work(emit: Emit) -> None:
        talk.stall()
        await emit(b"a")
        await emit(b"b")
        with anyio.move_on_after(1):
            await current_stream().flush()
        talk.resume()
        await emit(b"c")

    async with Conversation(SSEBatchingMiddleware(streaming(work))) as talk:
        await talk.ended()
    assert talk.body == b"abc"
    assert talk.completed


async def test_the_delay_of_one_response_can_be_changed() -> None:
    """`configure(max_delay=...)` changes the delay of the next chunks of this response only."""

    async def work(emit: Emit) -> None:
        current_stream().configure(max_delay=1)
        await emit(b"a")
        await advance(0.75)
        await emit(b"b")  # due at 1.5: the burst is 0.75 old
        await advance(0.875)
        await emit(b"c")  # at 1.625, due at 2.625
        await advance(2)
        current_stream().configure(max_delay=0.125)
        await emit(b"d")  # at 3.625, due at once
        await advance(0.0625)
        await emit(b"e")  # due at 3.75: the burst is 0.0625 old
        await advance(0.09375)
        await emit(b"f")  # at 3.78125, due at 3.90625
        await advance(1)

    app = SSEBatchingMiddleware(streaming(work), max_delay=DELAY)
    for _ in range(2):  # the second response begins with the delay of the middleware
        talk = await converse(app)
        assert times(talk) == [
            (0, b"a"),
            (1.5, b"b"),
            (2.625, b"c"),
            (3.625, b"d"),
            (3.75, b"e"),
            (3.90625, b"f"),
        ]


async def test_a_shorter_delay_applies_although_a_batch_waits() -> None:
    """The chunk after `configure` waits no longer than the new delay, also if a batch with a later
    deadline waits."""

    async def work(emit: Emit) -> None:
        await emit(b"a")
        await advance(0.5)
        await emit(b"b")  # due at 1
        current_stream().configure(max_delay=0.125)
        await emit(b"c")  # due at 0.625, with b
        await advance(5)

    talk = await converse(SSEBatchingMiddleware(streaming(work), max_delay=1))
    assert times(talk) == [(0, b"a"), (0.625, b"bc")]


@pytest.mark.parametrize("before_the_start", [True, False])
async def test_batching_can_be_switched_off_for_one_response(before_the_start: bool) -> None:
    """With `enabled=False` each chunk is a write of its own, and is delivered when its `send`
    returns."""
    delivered: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if before_the_start:
            current_stream().configure(enabled=False)
        await send(start())
        if not before_the_start:
            current_stream().configure(enabled=False)
        for body in (b"a", b"b", b"c"):
            await send(chunk(body))
            delivered.append(talk.body)
        await send(last(b"d"))

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await talk.ended()
    assert delivered == [b"a", b"ab", b"abc"]
    assert talk.bodies == [b"a", b"b", b"c", b"d"]


async def test_batching_can_be_switched_off_while_a_batch_waits() -> None:
    """The first chunk after `enabled=False` is delivered at once, with the batch that waits."""
    delivered: list[bytes] = []

    async def work(emit: Emit) -> None:
        await emit(b"a")
        await advance(0.5)
        for body in (b"b", b"c"):  # due at 1
            await emit(body)
            await advance(0.01)
        assert talk.body == b"a"
        current_stream().configure(enabled=False)
        for body in (b"d", b"e"):
            await emit(body)
            delivered.append(talk.body)

    async with Conversation(SSEBatchingMiddleware(streaming(work), max_delay=1)) as talk:
        await talk.ended()
    assert delivered == [b"abcd", b"abcde"]


async def test_batching_can_be_switched_on_again() -> None:
    """With `enabled=True` the chunks that follow are batched again."""

    async def work(emit: Emit) -> None:
        current_stream().configure(enabled=False)
        await emit(b"a")
        await emit(b"b")
        current_stream().configure(enabled=True)
        await emit(b"c")
        await emit(b"d")
        await advance(1)

    talk = await converse(SSEBatchingMiddleware(streaming(work)))
    assert talk.bodies == [b"a", b"b", b"cd"]


async def test_a_disconnect_is_noticed_with_batching_switched_off() -> None:
    """After `enabled=False` a disconnect still cancels the token, and `send` still raises."""
    raised: list[ClientDisconnected] = []

    async def work(emit: Emit) -> None:
        current_stream().configure(enabled=False)
        await emit(b"a")
        talk.leave()
        await current_stream().token.wait_async()
        with pytest.raises(ClientDisconnected) as caught:
            await emit(b"b")
        raised.append(caught.value)

    async with Conversation(SSEBatchingMiddleware(streaming(work))) as talk:
        await talk.ended()
    assert len(raised) == 1
    assert talk.body == b"a"


@pytest.mark.parametrize(
    ("delay", "error"),
    [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError)],
)
async def test_a_bad_delay_raises_and_changes_nothing(delay: Any, error: type[Exception]) -> None:
    """A bad `max_delay` raises in `configure`, with the option named in the message, and the old
    delay stays."""

    async def work(emit: Emit) -> None:
        with pytest.raises(error, match="max_delay"):
            current_stream().configure(max_delay=delay)
        await emit(b"a")
        await advance(0.1875)
        await emit(b"b")  # due at 0.375: the burst is 0.1875 old
        await advance(0.21875)
        await emit(b"c")  # at 0.40625, due at 0.65625
        await advance(1)

    talk = await converse(SSEBatchingMiddleware(streaming(work), max_delay=DELAY))
    assert times(talk) == [(0, b"a"), (0.375, b"b"), (0.65625, b"c")]
