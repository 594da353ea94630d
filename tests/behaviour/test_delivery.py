"""What arrives: the bytes that the app sent, all of them, in order (D1, D4)."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given, settings, strategies as st
from starlette.types import Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware, current_stream
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import Emit, chunk, converse, emitting, last, sending, start, streaming
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(st.binary(max_size=40) | st.sampled_from([0.0, 0.1, 0.25]), max_size=30),
    max_delay=st.sampled_from([0.0, 0.25, 2.0]),
    max_batch_bytes=st.integers(1, 100),
)
async def test_the_bytes_are_those_that_the_app_sent(
    steps: list[bytes | float], max_delay: float, max_batch_bytes: int
) -> None:
    """Whatever the chunks, the pauses and the options: nothing is lost, doubled or reordered.
    Pitfall 36."""
    app = SSEBatchingMiddleware(
        emitting(*steps), max_delay=max_delay, max_batch_bytes=max_batch_bytes
    )
    talk = await converse(app)
    assert talk.body == b"".join(step for step in steps if isinstance(step, bytes))
    assert talk.completed


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_any_kind_of_bytes_is_taken(kind: type[bytes | bytearray | memoryview]) -> None:
    """Chunks may be bytes, bytearrays and memoryviews; the server gets nothing but bytes."""
    app = SSEBatchingMiddleware(
        sending(start(), chunk(kind(b"one ")), chunk(kind(b"two ")), last(kind(b"three")))
    )
    talk = await converse(app)
    assert talk.body == b"one two three"
    assert {type(body) for body in talk.bodies} == {bytes}


async def test_a_slice_of_a_memoryview_is_taken_for_its_bytes() -> None:
    """A view that skips bytes is sent as what it shows."""
    talk = await converse(
        SSEBatchingMiddleware(sending(start(), chunk(memoryview(b"abcdef")[::2]), last()))
    )
    assert talk.body == b"ace"


@pytest.mark.parametrize("view", [lambda buffer: buffer, memoryview])
async def test_the_app_may_use_its_buffer_again(view: Any) -> None:
    """What is sent is what the buffer held when `send` was called."""

    async def work(emit: Emit) -> None:
        buffer = bytearray(b"....")
        for text in (b"aaaa", b"bbbb", b"cccc"):
            buffer[:] = text
            await emit(view(buffer))
        buffer[:] = b"zzzz"

    talk = await converse(SSEBatchingMiddleware(streaming(work)))
    assert talk.body == b"aaaabbbbcccc"


async def test_an_empty_first_chunk_goes_out() -> None:
    """On some servers an empty chunk is what sends the headers, so the first one is kept."""

    async def work(emit: Emit) -> None:
        await emit(b"")
        await advance(1)
        await emit(b"data: 1\n\n")

    talk = await converse(SSEBatchingMiddleware(streaming(work)))
    assert [(sent.at, sent.message) for sent in talk.sent[1:]] == [
        (0, chunk(b"")),
        (1, last(b"data: 1\n\n")),
    ]


async def test_empty_chunks_cost_no_writes() -> None:
    """An empty chunk in the middle of a stream has nothing to say, and is not sent."""
    app = SSEBatchingMiddleware(emitting(b"a", 1.0, b"", b"", 1.0, b"", b"b", 1.0))
    talk = await converse(app)
    assert [sent.message for sent in talk.sent[1:]] == [chunk(b"a"), chunk(b"b"), last()]


async def test_a_chunk_without_a_body_or_more_body_is_an_end() -> None:
    """`body` and `more_body` may be left out, as ASGI says: no bytes, and no more to come."""
    app = SSEBatchingMiddleware(sending(start(), chunk(b"data"), {"type": "http.response.body"}))
    talk = await converse(app)
    assert talk.body == b"data"
    assert talk.completed


async def test_the_last_message_takes_the_rest_with_it() -> None:
    """What is pending and the body of the last message go out in one write, the last.
    Pitfall 38."""
    app = SSEBatchingMiddleware(
        sending(start(), chunk(b"1"), chunk(b"2"), chunk(b"3"), last(b"4")), max_delay=60
    )
    talk = await converse(app)
    assert [sent.message for sent in talk.sent[1:]] == [last(b"1234")]


async def test_the_last_send_returns_when_its_message_was_delivered() -> None:
    """The app that has sent its last message knows that all was delivered."""
    delivered: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        talk.stall()
        await send(chunk(b"first"))
        await send(last(b" and last"))
        delivered.append(talk.completed)

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await advance(5)
        assert delivered == []
        talk.resume()
        await talk.ended()
    assert delivered == [True]
    assert talk.body == b"first and last"


async def test_the_start_is_delivered_before_its_send_returns() -> None:
    """The headers do not wait for the first chunk."""
    sent_after_start: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        sent_after_start.append(len(talk.sent))
        await send(last())

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await talk.ended()
    assert sent_after_start == [1]


async def test_sends_of_several_tasks_keep_their_order() -> None:
    """Whichever task calls `send` first comes first, be it in the middle of a flush or a stall."""
    called: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def produce(name: bytes) -> None:
            for number in range(20):
                await advance(0.01 * ((number * 7 + name[0]) % 5))
                body = b"%s%d " % (name, number)
                called.append(body)
                await send(chunk(body))
                if number % 6 == 5:
                    await current_stream().flush()

        await send(start())
        async with anyio.create_task_group() as tasks:
            for name in (b"a", b"b", b"c"):
                tasks.start_soon(produce, name)
        await send(last())

    async def slow(index: int, message: Any) -> None:
        await advance(0.03)

    talk = await converse(SSEBatchingMiddleware(app, max_delay=0.05), on_send=slow)
    assert talk.body == b"".join(called)


async def test_a_send_does_not_overtake_one_that_waits_for_its_turn() -> None:
    """A chunk that came behind a message under way goes before any that was sent later."""
    called: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def produce(body: bytes) -> None:
            called.append(body)
            await send(chunk(body))

        async def push() -> None:
            await send({"type": "http.response.push", "path": "/style.css", "headers": []})

        await send(start())
        talk.stall()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(push)
            tasks.start_soon(produce, b"first ")
            await talk.until(lambda: talk.in_send)
            await anyio.wait_all_tasks_blocked()
            talk.resume()
            # Another chunk at each turn of the loop, so that one comes just as the turn ends.
            for number in range(10):
                tasks.start_soon(produce, b"%d " % number)
                await anyio.lowlevel.checkpoint()
        await send(last())

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await talk.ended()
    assert talk.body == b"".join(called)
