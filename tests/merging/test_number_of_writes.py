"""Merging costs a stream at most `EXTRA_WRITES` writes more than batching alone.

An event that is no delta hurries its batch, so that nobody waits for the start of a tool call.
Where such events are frequent, each of them would be a write, as if nothing were batched.
"""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given, settings, strategies as st

from sse_batching import SSEBatchingMiddleware
from sse_batching._buffer import EXTRA_WRITES, Buffer
from sse_batching._merging import Merger
from tests.conftest import VIRTUAL_TIME, loops
from tests.merging.kinds import KINDS, Kind
from tests.support.apps import converse, last, start
from tests.support.virtual_time import advance

DELAY: Final = 1 / 16
BEAT: Final = 3 / 256
OFFSET: Final = 1 / 512
"""The second event comes this much later. So no event comes in the very moment in which a batch is
due: on trio, rounding would decide which of the two is first."""

AG_UI: Final = next(kind for kind in KINDS if kind.name == "ag_ui")


async def written(kind: Kind, *steps: bytes | float, **options: Any) -> list[tuple[float, bytes]]:
    """Return the writes of a stream in virtual time: when, and what."""
    media_type = b"application/x-ndjson" if kind.lines else b"text/event-stream"
    header = kind.format.header

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(media_type, *([(header, b"v1")] if header else [])))
        for step in steps:
            if isinstance(step, bytes):
                await send({"type": "http.response.body", "body": step, "more_body": True})
            else:
                await advance(step)
        await send(last())

    middleware = SSEBatchingMiddleware(
        app, max_delay=DELAY, media_types=[media_type.decode()], **options
    )
    talk = await converse(middleware, method="POST")
    bodies = [sent for sent in talk.sent if sent.message.get("body")]
    return [(round(sent.at, 9), sent.message["body"]) for sent in bodies]


def interleaved(kind: Kind, deltas: int) -> list[bytes | float]:
    """Return a stream with an event that is no delta beside each delta."""
    steps: list[bytes | float] = [kind.opener, OFFSET]
    for _ in range(deltas):
        steps += [BEAT, kind.other, kind.delta(b"a")]
    return steps


@pytest.mark.anyio
@loops(VIRTUAL_TIME)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_events_beside_each_delta_do_not_undo_the_batching(kind: Kind) -> None:
    """A stream with another event beside each delta costs no more writes than without merging.

    ag-ui-langgraph sends a RAW event beside each delta. The bytes are as without merging, because
    only neighbours are merged. Pitfall 85.
    """
    steps = interleaved(kind, 160)
    alone = await written(kind, *steps)
    merged = await written(kind, *steps, merge=kind.format)
    assert b"".join(body for _, body in merged) == b"".join(body for _, body in alone)
    assert len(alone) < 50
    assert len(merged) <= len(alone)


@pytest.mark.anyio
@loops(VIRTUAL_TIME)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_an_event_that_is_rare_goes_at_once(kind: Kind) -> None:
    """After many deltas an event that is no delta goes out at once, with what was pending.

    It is so also after a time in which such events were frequent.
    """
    beat: list[bytes | float] = [BEAT, kind.delta(b"b")]
    steps = [*interleaved(kind, 20), *beat * 202, kind.other, 1.0]
    writes = await written(kind, *steps, merge=kind.format)
    at, body = writes[-1]
    assert at == pytest.approx(OFFSET + 222 * BEAT)
    assert body in [kind.delta(b"b" * number) + kind.other for number in range(1, 8)]


@pytest.mark.anyio
@loops(VIRTUAL_TIME)
async def test_an_event_of_flush_on_goes_at_once_however_frequent_it_is() -> None:
    """What the user names is written at once, each time."""
    steps = interleaved(AG_UI, 30)
    writes = await written(AG_UI, *steps, merge=AG_UI.format, flush_on=["RAW"])
    assert len(writes) >= 30
    assert {round((at - OFFSET) / BEAT, 6) % 1 for at, _ in writes[1:]} == {0}


@pytest.mark.anyio
@loops(VIRTUAL_TIME)
async def test_events_that_are_no_deltas_do_not_end_the_merging() -> None:
    """Deltas that become neighbours after hundreds of interrupted ones are merged."""
    steps = [*interleaved(AG_UI, 300), 1.0, AG_UI.delta(b"a"), BEAT]
    steps += [AG_UI.delta(b"b"), AG_UI.delta(b"c"), 1.0]
    writes = await written(AG_UI, *steps, merge="auto")
    assert writes[-1][1] == AG_UI.delta(b"bc")


# Any mix of events, at any times.

MIXES: Final = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.001, 0.01, 0.0125, 0.03, 0.05, 0.06, 0.2]),
        st.sampled_from(["delta", "delta", "delta", "other", "comment", "half", "long"]),
    ),
    max_size=150,
)


def count_writes(chunks: list[tuple[float, bytes]], merger: Merger | None) -> int:
    """Return the number of writes, on a server that takes each write at once."""
    buffer, now, writes = Buffer(0.05, 2_000, merger), 0.0, 0
    for pause, chunk in chunks:
        now += pause
        if buffer.deadline <= now:
            buffer.take(buffer.deadline)
            buffer.sent()
            writes += 1
        buffer.add(chunk, now)
        if buffer.deadline <= now:
            buffer.take(now)
            buffer.sent()
            writes += 1
    return writes + buffer.waiting


@settings(deadline=None, max_examples=300)
@given(mix=MIXES, number=st.integers(0, len(KINDS) - 1), repeat=st.integers(1, 20))
def test_no_mix_of_events_costs_more_writes(
    mix: list[tuple[float, str]], number: int, repeat: int
) -> None:
    """For any events at any times, merging costs at most `EXTRA_WRITES` writes more."""
    kind = KINDS[number]
    delta = kind.delta(b"a")
    bodies = {
        "delta": delta,
        "other": kind.other,
        "comment": b": ping\n\n",
        "half": delta[: len(delta) // 2],
        "long": kind.delta(b"a" * 3_000),
    }
    chunks = [(0.0, kind.opener), *((pause, bodies[name]) for pause, name in mix * repeat)]
    alone = count_writes(chunks, None)
    assert count_writes(chunks, kind.merger()) <= alone + EXTRA_WRITES


@pytest.mark.parametrize("period", range(1, 12))
def test_the_price_of_events_that_are_no_deltas_is_bounded(period: int) -> None:
    """A stream with such an event after each so many deltas pays once, and not each time."""
    chunks = [(0.0, AG_UI.opener)]
    for _ in range(200):
        chunks += [*[(0.0125, AG_UI.delta(b"a"))] * period, (0.0125, AG_UI.other)]
    alone = count_writes(chunks, None)
    assert count_writes(chunks, AG_UI.merger()) <= alone + EXTRA_WRITES
