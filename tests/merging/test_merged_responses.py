"""Merging in whole responses: when events go out, how a response ends, what the report says."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware, StreamReport, current_stream
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.merging.merged import line, sse, typed
from tests.support.apps import (
    Emit,
    chunk,
    converse,
    emitting,
    last,
    sending,
    start,
    streaming,
    times,
)
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

DELAY = 0.25
MOMENT = 0.03125
OPENER, DONE = typed({"type": "message_start"}), typed({"type": "message_stop"})


def delta(text: str) -> bytes:
    """Return a text delta of Anthropic's."""
    inside = {"type": "text_delta", "text": text}
    return typed({"type": "content_block_delta", "index": 0, "delta": inside})


def merging(app: ASGIApp, **options: Any) -> SSEBatchingMiddleware:
    return SSEBatchingMiddleware(app, **{"merge": "auto", "max_delay": DELAY, **options})


def writes(talk: Conversation) -> list[tuple[float, bytes]]:
    """Return when each part of the body was written, and the part.

    Times are rounded: all tests on trio share one clock, so differences of times are not exact.
    """
    return [(round(at, 6), body) for at, body in times(talk)]


# When events go out. A batch waits as long as its burst is old: a delta at 0.125 is due at 0.25.


async def test_the_deltas_of_a_batch_are_one_event() -> None:
    """The first event goes out at once, a batch when it is due, the rest with the last message.

    There are as few writes as without merging.
    """
    app = emitting(
        OPENER, 0.125, delta("a"), delta("b"), 0.0625, delta("c"), 0.1875, delta("d"), delta("e")
    )
    talk = await converse(merging(app))
    assert writes(talk) == [(0, OPENER), (0.25, delta("abc"))]
    assert talk.bodies[-1] == delta("de")


async def test_without_the_option_no_event_is_changed() -> None:
    """Merging is off by default."""
    stream = [OPENER, delta("a"), delta("b"), DONE]
    talk = await converse(SSEBatchingMiddleware(emitting(*stream)))
    assert talk.body == b"".join(stream)


async def test_an_event_that_is_no_delta_takes_along_what_is_pending() -> None:
    """Another event goes out at once, with pending deltas in the same write."""
    app = emitting(OPENER, MOMENT, delta("a"), delta("b"), DONE, MOMENT, delta("c"), 1.0)
    talk = await converse(merging(app))
    assert [body for _, body in writes(talk)] == [OPENER, delta("ab") + DONE, delta("c")]
    assert [at for at, _ in writes(talk)] == [0, MOMENT, 4 * MOMENT]


async def test_an_event_that_is_no_delta_does_not_wait_though_nothing_is_pending() -> None:
    """Another event goes out at once also if it is alone in its batch."""
    talk = await converse(merging(emitting(OPENER, 0.125, DONE, 0.0625, DONE, 1.0)))
    assert writes(talk) == [(0, OPENER), (0.125, DONE), (0.1875, DONE)]


async def test_a_delta_that_comes_alone_is_not_held_for_a_successor() -> None:
    """A delta after a quiet time goes out at once, like any chunk."""
    talk = await converse(merging(emitting(OPENER, 1.0, delta("a"), 1.0, delta("b"), 1.0)))
    assert writes(talk) == [(0, OPENER), (1, delta("a")), (2, delta("b"))]


async def test_an_event_of_an_unknown_stream_waits_like_a_chunk() -> None:
    """Without a known format, events wait as without merging."""
    app = emitting(sse("1"), 0.125, sse("2"), sse("3"), 1.0)
    assert writes(await converse(merging(app))) == [(0, sse("1")), (0.25, sse("2") + sse("3"))]


@pytest.mark.parametrize("merge", ["auto", None])
async def test_an_event_can_be_named_that_must_not_wait(merge: Any) -> None:
    """An event in `flush_on` goes out at once, with `merge` or without."""
    now = sse({"type": "now"})
    app = emitting(sse("1"), 0.125, sse("2"), now, 1.0)
    talk = await converse(merging(app, merge=merge, flush_on=("now",)))
    assert writes(talk) == [(0, sse("1")), (0.125, sse("2") + now)]


async def test_an_event_that_comes_in_two_chunks_is_merged_as_any_other() -> None:
    """An event in two chunks is merged if both come before the batch is due."""
    event = delta("b")
    app = emitting(OPENER, 0.125, delta("a"), event[:9], 0.0625, event[9:], 1.0)
    assert writes(await converse(merging(app))) == [(0, OPENER), (0.25, delta("ab"))]


async def test_half_an_event_waits_no_longer_than_any_chunk() -> None:
    """Half an event goes out unchanged when the batch is due, and the other half follows it."""
    reports: list[StreamReport] = []
    event, done = delta("c"), sse({"type": "done"})
    app = emitting(OPENER, 0.125, delta("a"), delta("b") + event[:9], 0.5, event[9:] + done, 1.0)
    talk = await converse(merging(app, on_close=reports.append))
    assert writes(talk) == [
        (0, OPENER),
        (0.25, delta("ab") + event[:9]),
        (0.625, event[9:] + done),
    ]
    assert reports[0].bytes_in == len(OPENER + delta("a") + delta("b") + event + done)
    assert reports[0].bytes_undelivered == 0


async def test_a_heartbeat_without_a_blank_line_is_not_held() -> None:
    """A comment line without a blank line goes out at once, because proxies wait for it."""
    app = emitting(OPENER, 1.0, b":\n", 1.0, b":\n", 1.0)
    assert writes(await converse(merging(app))) == [(0, OPENER), (1, b":\n"), (2, b":\n")]


async def test_an_empty_first_chunk_still_sends_the_headers() -> None:
    """An empty first chunk makes the server send the headers, as some apps intend."""
    talk = await converse(merging(emitting(b"", 1.0, OPENER)))
    assert writes(talk)[0] == (0, b"")


async def test_merged_events_keep_to_their_limit() -> None:
    """`max_merged_bytes` limits each merged event, not the batch."""
    limit = len(delta("aaa"))
    app = emitting(OPENER, MOMENT, *[delta("a")] * 9, 1.0)
    talk = await converse(merging(app, max_merged_bytes=limit))
    _, batch = writes(talk)[1]
    assert max(len(event) + 2 for event in batch.split(b"\n\n")[:-1]) <= limit
    assert 2 < batch.count(b"\n\n") < 9


async def test_a_batch_is_full_by_what_came_in() -> None:
    """`max_batch_bytes` limits the bytes that came in, not the bytes that merging leaves."""
    size = len(delta("a"))
    app = emitting(OPENER, MOMENT, *[delta("a")] * 6, 1.0)
    talk = await converse(merging(app, max_batch_bytes=3 * size))
    assert [body for _, body in writes(talk)] == [OPENER, delta("aaa"), delta("aaa")]


async def test_an_event_larger_than_the_buffer_passes_as_it_comes() -> None:
    """An event above `max_batch_bytes` does not block the app, and nothing is lost."""
    large = delta("x" * 1000)
    parts = [large[at : at + 100] for at in range(0, len(large), 100)]
    app = emitting(OPENER, MOMENT, delta("a"), delta("b"), *parts, delta("c"), 1.0)
    talk = await converse(merging(app, max_batch_bytes=300))
    assert talk.body == OPENER + delta("ab") + large + delta("c")


# Flushing, configuring, keeping alive, recording.


async def test_flush_delivers_all_that_was_sent() -> None:
    """A flush merges pending deltas and releases half an event. The rest of it is not merged."""
    bodies: list[bytes] = []
    event = delta("c")

    async def work(emit: Emit) -> None:
        for body in (OPENER, delta("a"), delta("b"), event[:30]):
            await emit(body)
        await current_stream().flush()
        bodies.append(talk.body)
        for body in (event[30:], delta("d")):
            await emit(body)

    async with Conversation(merging(streaming(work), max_delay=60)) as talk:
        await talk.ended()
    assert bodies == [OPENER + delta("ab") + event[:30]]
    assert talk.body == OPENER + delta("ab") + event + delta("d")


async def test_a_message_of_another_kind_keeps_its_place() -> None:
    """All bytes that the app sent before another message go out before this message."""
    debug: Message = {"type": "http.response.debug", "info": {}}
    half = delta("b")[:10]
    app = sending(start(), chunk(OPENER), chunk(delta("a") + half), debug, last(b"x"))
    talk = await converse(merging(app))
    kinds = [(sent.message["type"], sent.message.get("body")) for sent in talk.sent[1:]]
    at = kinds.index(("http.response.debug", None))
    assert b"".join(body or b"" for _, body in kinds[:at]) == OPENER + delta("a") + half
    assert b"".join(body or b"" for _, body in kinds[at:]) == b"x"


@pytest.mark.parametrize("before_the_start", [True, False])
async def test_where_batching_is_off_nothing_is_merged(before_the_start: bool) -> None:
    """Without batching each chunk is a write, also half an event. Merging does not come back."""
    events = [OPENER, delta("a"), delta("b")[:9], delta("b")[9:]]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if before_the_start:
            current_stream().configure(enabled=False)
        await send(start())
        if not before_the_start:
            current_stream().configure(enabled=False)
        for event in events:
            await send(chunk(event))
        current_stream().configure(enabled=True)
        for text in ("c", "d", "e"):
            await send(chunk(delta(text)))
        await send(last())

    talk = await converse(merging(app))
    assert talk.bodies[:4] == events
    assert b"".join(talk.bodies[4:]) == delta("c") + delta("d") + delta("e")


async def test_batching_can_be_switched_off_while_half_an_event_is_held() -> None:
    """Half an event that is held goes out with the next chunk."""

    async def work(emit: Emit) -> None:
        for body in (OPENER, delta("a"), delta("b"), delta("c")[:9]):
            await emit(body)
        current_stream().configure(enabled=False)
        await emit(delta("c")[9:])
        assert talk.body == OPENER + delta("ab") + delta("c")

    async with Conversation(merging(streaming(work), max_delay=60)) as talk:
        await talk.ended()
    assert talk.error is None


async def test_switching_batching_off_at_the_end_loses_nothing() -> None:
    """Half an event that is held goes out at the end of the response."""
    reports: list[StreamReport] = []

    async def work(emit: Emit) -> None:
        await emit(OPENER)
        await advance(1)
        await emit(delta("a")[:9])
        current_stream().configure(enabled=False)

    talk = await converse(merging(streaming(work), on_close=reports.append))
    assert talk.body == OPENER + delta("a")[:9]
    assert reports[0].bytes_undelivered == 0


async def test_comments_come_between_events() -> None:
    """A keep-alive comment is never written inside an event."""
    event, comment = delta("b"), b":\n"
    app = emitting(OPENER, 1.5, event[:9], 2.0, event[9:], 1.25, delta("c"))
    talk = await converse(merging(app, keepalive_interval=1))
    assert writes(talk) == [
        (0, OPENER),
        (1, comment),
        (1.5, event[:9]),
        (3.5, event[9:]),
        (4.5, comment),
    ]
    assert talk.bodies[-1] == delta("c")


async def test_what_goes_by_unseen_ends_the_merging() -> None:
    """Merging ends at a message that cannot be buffered, because it may have a part of an event."""
    odd = {**chunk(b"event: x\n"), "extension": 1}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        for message in (chunk(OPENER), odd, *(chunk(delta(text)) for text in "ab")):
            await send(message)
        await send(last())

    talk = await converse(merging(app))
    assert talk.body == OPENER + b"event: x\n" + delta("a") + delta("b")


async def test_what_is_recorded_is_what_the_app_sent() -> None:
    """The record has the bytes of the app. The report counts bytes before and after merging."""
    reports: list[StreamReport] = []
    stream = [OPENER, delta("a"), delta("b"), delta("c")]
    app = merging(emitting(*stream), record_bytes=10_000, on_close=reports.append)
    talk = await converse(app)
    (report,) = reports
    assert report.recorded == b"".join(stream)
    assert report.recorded_all
    assert talk.body == OPENER + delta("abc")
    assert (report.chunks, report.bytes_in) == (4, len(b"".join(stream)))
    assert (report.bytes_sent, report.bytes_undelivered) == (len(talk.body), 0)


# How a response ends.


async def test_the_end_brings_all_that_is_pending() -> None:
    """The last message takes along pending deltas, merged, and half an event, in one write."""
    half = delta("c")[:25]
    app = sending(start(), *map(chunk, (OPENER, delta("a"), delta("b"))), last(half))
    talk = await converse(merging(app))
    assert talk.body == OPENER + delta("ab") + half
    assert talk.bodies[-1].endswith(half)
    assert talk.completed


async def test_the_last_message_may_complete_an_event() -> None:
    """An event that the last message completes is merged."""
    app = sending(start(), *map(chunk, (OPENER, delta("a"), delta("b")[:9])), last(delta("b")[9:]))
    assert (await converse(merging(app))).body == OPENER + delta("ab")


async def test_an_app_that_raises_has_had_its_say() -> None:
    """If the app raises, all that it sent before is delivered, also half an event."""
    reports: list[StreamReport] = []
    half = delta("c")[:25]
    error = ValueError("of the app's")

    async def work(emit: Emit) -> None:
        await emit(OPENER)
        await advance(MOMENT)
        for body in (delta("a"), delta("b"), half):
            await emit(body)
        raise error

    async with Conversation(merging(streaming(work), on_close=reports.append)) as talk:
        await talk.ended()
    assert talk.error is error
    assert talk.body == OPENER + delta("ab") + half
    (report,) = reports
    assert report.outcome == "failed"
    assert report.bytes_in == len(OPENER + delta("a") + delta("b") + half)
    assert (report.bytes_sent, report.bytes_undelivered) == (len(talk.body), 0)


@pytest.mark.parametrize("pending", [b"", delta("a") + delta("b")], ids=["half", "more"])
async def test_what_a_client_that_left_did_not_get_is_counted(pending: bytes) -> None:
    """The report counts held and pending bytes as undelivered if the client leaves."""
    reports: list[StreamReport] = []
    half = delta("c")[:25]

    async def work(emit: Emit) -> None:
        await emit(OPENER)
        await advance(MOMENT)
        await emit(pending + half)
        talk.leave()
        await advance(1)

    async with Conversation(merging(streaming(work), on_close=reports.append)) as talk:
        await talk.ended()
    (report,) = reports
    assert talk.body == OPENER
    assert report.bytes_in == len(OPENER + pending + half)
    assert report.bytes_sent == len(OPENER)
    assert report.bytes_undelivered == len(pending + half)


async def test_a_write_that_fails_loses_what_came_in_for_it() -> None:
    """After a failed write, the bytes of the app, before merging, count as undelivered."""
    reports: list[StreamReport] = []
    pending = delta("a") + delta("b") + delta("c")[:25]

    async def work(emit: Emit) -> None:
        await emit(OPENER)
        await current_stream().flush()
        talk.fail_writes(ConnectionResetError())
        await emit(pending)
        await advance(1)

    async with Conversation(merging(streaming(work), on_close=reports.append)) as talk:
        await talk.ended()
    (report,) = reports
    assert report.bytes_in == len(OPENER + pending)
    assert report.bytes_undelivered == len(pending)


async def test_lines_of_json_are_merged_if_their_type_is_listed() -> None:
    """Newline-delimited JSON (Ollama) is merged if its media type is in `media_types`."""

    def said(text: str, time: int) -> bytes:
        return line({"model": "m", "created_at": time, "response": text, "done": False})

    kind = b"application/x-ndjson"
    stream = [said("x", 0), said("a", 1), said("b", 2)]
    app = sending(start(kind), *map(chunk, stream), last())
    listed = ("text/event-stream", "application/x-ndjson")
    assert (await converse(merging(app, media_types=listed))).body == stream[0] + said("ab", 2)
    assert (await converse(merging(app))).body == b"".join(stream)
