"""Backpressure: a slow client slows its app down, and costs no memory (D3)."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given, settings, strategies as st
from starlette.types import Message

from sse_batching import SSEBatchingMiddleware
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import Emit, converse, streaming
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]


async def test_send_waits_while_the_buffer_is_full() -> None:
    """While `max_batch_bytes` are buffered, the app's `send` waits for the client. Pitfall 57."""
    returned: list[int] = []

    async def work(emit: Emit) -> None:
        talk.stall()
        for number in range(100):
            await emit(b"x" * 10)
            returned.append(number)

    app = SSEBatchingMiddleware(streaming(work), max_batch_bytes=100, send_timeout=None)
    async with Conversation(app) as talk:
        await advance(5)
        assert len(returned) == 9  # the tenth is in the buffer, and its `send` waits
        talk.resume()
        await talk.ended()
    assert len(returned) == 100
    assert talk.body == b"x" * 1000


async def test_the_buffer_fills_up_again_during_each_write() -> None:
    """During each write the app can buffer as much as the write has taken."""
    accepted = 0

    async def work(emit: Emit) -> None:
        nonlocal accepted
        for _ in range(60):
            await emit(b"x" * 10)
            accepted += 10

    async def write(index: int, message: Message) -> None:
        await advance(1)

    app = SSEBatchingMiddleware(streaming(work), max_batch_bytes=100)
    async with Conversation(app, on_send=write) as talk:
        for _ in range(6):
            await talk.until(lambda: talk.completed or accepted - len(talk.body) >= 90)
            assert accepted - len(talk.body) <= 100
            await advance(1)
        await talk.ended()
    assert talk.body == b"x" * 600


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from([0, 0.03125]), st.integers(1, 150)), min_size=1, max_size=30
    ),
    write_times=st.lists(st.sampled_from([0.0, 0.0625, 0.125]), min_size=1, max_size=5),
)
async def test_no_more_is_buffered_than_the_bound_and_one_chunk(
    steps: list[tuple[float, int]], write_times: list[float]
) -> None:
    """At most `max_batch_bytes`, and the chunk that crossed it, are accepted and not delivered,
    whatever the sizes of the chunks and the pace of the app and of the client. Pitfall 44."""
    accepted = delivered = 0
    largest = max(size for _, size in steps)

    async def work(emit: Emit) -> None:
        nonlocal accepted
        for pause, size in steps:
            await advance(pause)
            accepted += size
            await emit(b"x" * size)
            assert accepted - delivered < 100  # otherwise `send` has to wait

    async def write(index: int, message: Message) -> None:
        nonlocal delivered
        body = message.get("body", b"")
        assert accepted - delivered < 100 + largest
        await advance(write_times[index % len(write_times)])
        delivered += len(body)

    talk = await converse(
        SSEBatchingMiddleware(streaming(work), max_batch_bytes=100), on_send=write
    )
    assert len(talk.body) == sum(size for _, size in steps)


async def test_several_tasks_together_are_bound_as_one() -> None:
    """However many tasks send concurrently, the buffer accepts one chunk past its bound."""

    async def produce(emit: Emit) -> None:
        await emit(b"x" * 60)

    async def work(emit: Emit) -> None:
        talk.stall()
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(produce, emit)

    app = SSEBatchingMiddleware(streaming(work), max_batch_bytes=100, send_timeout=None)
    async with Conversation(app) as talk:
        await advance(5)
        talk.resume()
        await talk.ended()
    assert max(len(body) for body in talk.bodies) <= 160
    assert len(talk.body) == 1200


async def test_one_chunk_larger_than_the_bound_passes() -> None:
    """A chunk that is larger than the buffer is written whole."""
    returned = False

    async def work(emit: Emit) -> None:
        nonlocal returned
        await emit(b"x" * 1000)
        returned = True
        await advance(1)

    talk = await converse(SSEBatchingMiddleware(streaming(work), max_batch_bytes=100))
    assert returned
    assert talk.bodies == [b"x" * 1000]
