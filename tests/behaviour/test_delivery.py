"""All bytes that the app sent are delivered, in order (D1, D4)."""

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
    """No byte is lost, doubled or reordered, whatever the chunks, the pauses and the options.
    Pitfall 36."""
    app = SSEBatchingMiddleware(
        emitting(*steps), max_delay=max_delay, max_batch_bytes=max_batch_bytes
    )
    talk = await converse(app)
    assert talk.body == b"".join(step for step in steps if isinstance(step, bytes))
    assert talk.completed


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_any_kind_of_bytes_is_accepted(kind: type[bytes | bytearray | memoryview]) -> None:
    """Chunks may be bytes, bytearrays and memoryviews. The server gets only bytes."""
    app = SSEBatchingMiddleware(
        sending(start(), chunk(kind(b"one ")), chunk(kind(b"two ")), last(kind(b"three")))
    )
    talk = await converse(app)
    assert talk.body == b"one two three"
    assert {type(body) for body in talk.bodies} == {bytes}


async def test_a_sliced_memoryview_is_sent_as_its_bytes() -> None:
    """A memoryview that skips bytes is sent without the skipped bytes."""
    talk = await converse(
        SSEBatchingMiddleware(sending(start(), chunk(memoryview(b"abcdef")[::2]), last()))
    )
    assert talk.body == b"ace"


@pytest.mark.parametrize("view", [lambda buffer: buffer, memoryview])
async def test_the_app_may_reuse_its_buffer(view: Any) -> None:
    """The bytes sent are those that the app's buffer had when `send` was called."""

    async def work(emit: Emit) -> None:
        buffer = bytearray(b"....")
        for text in (b"aaaa", b"bbbb", b"cccc"):
            buffer[:] = text
            await emit(view(buffer))
        buffer[:] = b"zzzz"

    talk = await converse(SSEBatchingMiddleware(streaming(work)))
    assert talk.body == b"aaaabbbbcccc"


async def test_an_empty_first_chunk_is_written() -> None:
    """An empty first chunk is written, because some servers send the headers with it (daphne)."""

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
    """An empty chunk in the middle of a stream is dropped."""
    app = SSEBatchingMiddleware(emitting(b"a", 1.0, b"", b"", 1.0, b"", b"b", 1.0))
    talk = await converse(app)
    assert [sent.message for sent in talk.sent[1:]] == [chunk(b"a"), chunk(b"b"), last()]


async def test_a_message_without_body_and_more_body_is_the_last_one() -> None:
    """A missing `body` means no bytes and a missing `more_body` means False, as ASGI says."""
    app = SSEBatchingMiddleware(sending(start(), chunk(b"data"), {"type": "http.response.body"}))
    talk = await converse(app)
    assert talk.body == b"data"
    assert talk.completed


async def test_the_last_message_takes_the_waiting_batch_with_it() -> None:
    """The waiting batch and the body of the last message go out in one write. Pitfall 38."""
    app = SSEBatchingMiddleware(
        sending(start(), chunk(b"1"), chunk(b"2"), chunk(b"3"), last(b"4")), max_delay=60
    )
    talk = await converse(app)
    assert [sent.message for sent in talk.sent[1:]] == [last(b"1234")]


async def test_the_last_send_returns_when_its_message_was_delivered() -> None:
    """When the app's last `send` returns, the whole response is delivered."""
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
    """The headers are written without waiting for the first chunk."""
    sent_after_start: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        sent_after_start.append(len(talk.sent))
        await send(last())

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await talk.ended()
    assert sent_after_start == [1]


async def test_sends_of_several_tasks_keep_their_order() -> None:
    """Chunks are written in the order of the calls of `send`, whichever tasks call, also during a
    flush and a slow write."""
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


async def test_a_send_does_not_overtake_a_queued_send() -> None:
    """A chunk that is queued behind a message is written before any chunk that was sent later."""
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
            # Another chunk in each loop iteration: one of them comes just as the queued `send` is
            # woken.
            for number in range(10):
                tasks.start_soon(produce, b"%d " % number)
                await anyio.lowlevel.checkpoint()
        await send(last())

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await talk.ended()
    assert talk.body == b"".join(called)
