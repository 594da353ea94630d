"""When chunks are written: the first one at once, any other within `max_delay`, or sooner (D2)."""

from __future__ import annotations

from itertools import pairwise

import anyio
import pytest
from hypothesis import given, settings, strategies as st
from starlette.types import Message, Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware, current_stream
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import Emit, chunk, converse, emitting, last, start, streaming, times
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

# Fractions that are exact in binary, so that times can be compared as they are.
DELAY = 0.25


async def test_the_first_chunk_goes_out_at_once() -> None:
    """The first token is what people wait for: it waits for nothing. Pitfall 33."""
    talk = await converse(SSEBatchingMiddleware(emitting(1.0, b"first", 1.0), max_delay=DELAY))
    assert times(talk) == [(1.0, b"first")]


async def test_a_chunk_after_a_quiet_delay_goes_out_at_once() -> None:
    """Where the app has paused for `max_delay`, nothing is gained by waiting for more."""
    app = emitting(b"a", DELAY, b"b", 0.5, b"c", DELAY)
    talk = await converse(SSEBatchingMiddleware(app, max_delay=DELAY))
    assert times(talk) == [(0, b"a"), (0.25, b"b"), (0.75, b"c")]


async def test_chunks_are_joined_for_the_length_of_the_delay() -> None:
    """The deadline counts from the first chunk that waits, however steadily others come."""
    app = emitting(b"0", 0.1875, b"1", 0.125, b"2", 0.125, b"3", 0.125, b"4", 0.0625, b"5", 1.0)
    talk = await converse(SSEBatchingMiddleware(app, max_delay=DELAY))
    # 1 comes at 0.1875, and is due at 0.375; 3 comes at 0.4375, and is due at 0.6875.
    assert times(talk) == [(0, b"0"), (0.375, b"12"), (0.6875, b"345")]


async def test_text_right_behind_an_empty_chunk_hardly_waits() -> None:
    """Text that follows an empty chunk waits only as long as the chunk is old.

    LLM streams begin with such a chunk: a role, `message_start`, a ping."""
    app = emitting(b"role", 0.005, b"text", 1.0)
    talk = await converse(SSEBatchingMiddleware(app, max_delay=0.05))
    assert times(talk) == [(0, b"role"), (0.01, b"text")]


async def test_delays_double_up_to_the_delay() -> None:
    """A batch waits as long as its burst is old, and at most `max_delay`."""
    unit = 1 / 64
    steady = (step for number in range(1, 60) for step in (b"%d " % number, unit))
    app = emitting(b"0 ", 1.25 * unit, *steady)
    talk = await converse(SSEBatchingMiddleware(app, max_delay=10.5 * unit))
    waits = [at / unit - (int(body.split()[0]) + 0.25) for at, body in times(talk)[1:-1]]
    assert waits == [1.25, 3.25, 7.25, 10.5, 10.5, 10.5]


async def test_a_silence_begins_a_new_burst() -> None:
    """After a quiet `max_delay` a chunk goes out at once, and delays begin at nothing again."""
    app = emitting(b"a", 0.1875, b"b", 0.25, b"c", 0.03125, b"d", 1.0)
    talk = await converse(SSEBatchingMiddleware(app, max_delay=DELAY))
    assert times(talk) == [(0, b"a"), (0.375, b"b"), (0.4375, b"c"), (0.5, b"d")]


async def test_a_silence_is_counted_from_the_last_chunk() -> None:
    """A write to a slow client that ended just now does not keep the next chunk waiting."""

    async def work(emit: Emit) -> None:
        talk.stall()
        await emit(b"a")
        await advance(1)
        talk.resume()
        await advance(0.03125)
        await emit(b"b")
        await advance(1)

    async with Conversation(SSEBatchingMiddleware(streaming(work), max_delay=DELAY)) as talk:
        await talk.ended()
    assert times(talk) == [(1, b"a"), (1.03125, b"b")]


@pytest.mark.parametrize("pace", [0.012, 0.02, 0.049, 0.051])
async def test_a_steady_app_gives_a_steady_stream(pace: float) -> None:
    """Once the burst is as old as the delay, writes are equally far apart and equally large.

    A fixed tick would beat against the pace of the tokens. Pitfall 35."""
    app = emitting(*(step for n in range(60) for step in (b"%d " % n, pace)), 1.0)
    talk = await converse(SSEBatchingMiddleware(app, max_delay=0.05))
    written = {int(number): at for at, body in times(talk) for number in body.split()}
    assert all(written[n] - n * pace <= 0.05 + 1e-9 for n in range(60))
    # The burst is older than the delay, and a deadline that fell on a chunk has had its effect.
    steady = [(at, body) for at, body in times(talk)[:-1] if int(body.split()[0]) * pace >= 0.1]
    assert len(steady) >= 9
    gaps = {round(later[0] - before[0], 9) for before, later in pairwise(steady)}
    assert (len(gaps), len({len(body.split()) for _, body in steady})) == (1, 1)


async def test_what_comes_during_a_write_goes_as_soon_as_it_has_ended() -> None:
    """Behind a slow write chunks gather, and wait no longer than for its end."""

    async def work(emit: Emit) -> None:
        talk.stall()
        await emit(b"first ")
        for number in range(4):
            await advance(1)
            await emit(b"%d " % number)
        await advance(0.0625)
        talk.resume()
        await advance(1)

    async with Conversation(SSEBatchingMiddleware(streaming(work), max_delay=DELAY)) as talk:
        await talk.ended()
    assert times(talk) == [(4.0625, b"first "), (4.0625, b"0 1 2 3 ")]


async def test_without_a_delay_only_what_piles_up_behind_a_write_is_joined() -> None:
    """`max_delay=0` never waits, and still makes one write of what a busy server left lying."""

    async def work(emit: Emit) -> None:
        for body in (b"a", b"b"):
            await emit(body)
            await advance(0.125)
        talk.stall()
        for body in (b"c", b"d", b"e"):
            await emit(body)
            await advance(0.125)
        talk.resume()
        await advance(1)

    async with Conversation(SSEBatchingMiddleware(streaming(work), max_delay=0)) as talk:
        await talk.ended()
    assert times(talk) == [(0, b"a"), (0.125, b"b"), (0.625, b"c"), (0.625, b"de")]


async def test_a_full_batch_goes_out_at_once() -> None:
    """A batch that has reached `max_batch_bytes` waits for nothing more."""
    app = emitting(b"-", 0.125, b"four", b"four", 1.0)
    talk = await converse(SSEBatchingMiddleware(app, max_delay=60, max_batch_bytes=8))
    assert times(talk) == [(0, b"-"), (0.125, b"fourfour")]


async def test_a_timer_that_was_set_for_an_earlier_batch_does_nothing_to_a_later_one() -> None:
    """A flush by hand, or by size, leaves no timer behind that cuts the next batch short.
    Pitfall 40."""

    async def work(emit: Emit) -> None:
        await emit(b"a")
        await advance(0.1875)
        await emit(b"b")  # due at 0.375
        await advance(0.03125)
        await current_stream().flush()
        await advance(0.0625)
        await emit(b"c")  # at 0.28125, due at 0.53125
        await advance(0.1875)
        await emit(b"dddddddd")  # a full batch
        await advance(0.03125)
        await emit(b"e")  # at 0.5, due at 0.75
        await advance(1)

    talk = await converse(
        SSEBatchingMiddleware(streaming(work), max_delay=DELAY, max_batch_bytes=9)
    )
    assert times(talk) == [
        (0, b"a"),
        (0.21875, b"b"),
        (0.46875, b"cdddddddd"),
        (0.75, b"e"),
    ]


async def test_no_timer_fires_after_the_end_of_the_response() -> None:
    """What was pending went with the last message: nothing follows it. Pitfall 40."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(chunk(b"a"))
        await advance(0.0625)
        await send(chunk(b"b"))
        await send(last())
        await advance(5)

    talk = await converse(SSEBatchingMiddleware(app, max_delay=DELAY))
    assert [(sent.at, sent.message) for sent in talk.sent[1:]] == [
        (0, chunk(b"a")),
        (0.0625, last(b"b")),
    ]


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 20).map(lambda n: n / 64), st.integers(1, 50)), max_size=25
    ),
    write_time=st.sampled_from([0.0, 0.125, 0.5]),
)
async def test_no_byte_waits_longer_than_the_delay(
    steps: list[tuple[float, int]], write_time: float
) -> None:
    """Each byte is on its way `max_delay` after it came, or as soon as the server is free.
    Pitfall 34."""
    came: list[float] = []  # for each byte
    left: list[float] = []
    free_since: list[float] = []
    free = 0.0

    async def work(emit: Emit) -> None:
        for pause, size in steps:
            await advance(pause)
            came.extend([anyio.current_time()] * size)
            await emit(b"x" * size)

    async def write(index: int, message: Message) -> None:
        nonlocal free
        size = len(message.get("body", b""))
        left.extend([anyio.current_time()] * size)
        free_since.extend([free] * size)
        await advance(write_time)
        free = anyio.current_time()

    await converse(SSEBatchingMiddleware(streaming(work), max_delay=DELAY), on_send=write)
    assert len(left) == sum(size for _, size in steps)
    assert all(
        gone <= max(there + DELAY, server_free)
        for there, gone, server_free in zip(came, left, free_since, strict=True)
    )
