"""Keep-alive comments keep a quiet connection open, and change no event."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given, settings, strategies as st
from starlette.types import Message, Receive, Scope, Send

from sse_batching import CancelReason, SSEBatchingMiddleware, StreamReport, current_token
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import Emit, chunk, converse, emitting, last, start, streaming, times
from tests.support.event_stream import Event, parse
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

COMMENT = b":\n"
EVENT = b"data: 1\n\n"


async def test_no_comments_are_sent_by_default() -> None:
    """Without `keepalive_interval` no comment is added, however long a stream is quiet."""
    talk = await converse(SSEBatchingMiddleware(emitting(EVENT, 9.0, EVENT)))
    assert talk.body == EVENT * 2


async def test_comments_begin_before_the_first_event() -> None:
    """Comments are sent before the first event, too. Proxies close connections that are quiet while
    the app waits for its model's first token. Pitfall 17."""
    app = SSEBatchingMiddleware(emitting(3.5, EVENT, 1.0), keepalive_interval=1)
    assert times(await converse(app)) == [(1, COMMENT), (2, COMMENT), (3, COMMENT), (3.5, EVENT)]


async def test_a_comment_comes_when_nothing_was_sent_for_the_interval() -> None:
    """A comment is sent when `keepalive_interval` has passed since the end of the last write.
    Pitfall 17."""
    app = SSEBatchingMiddleware(
        emitting(EVENT, 0.75, EVENT, 0.75, EVENT, 1.5, EVENT, 0.5), keepalive_interval=1
    )
    assert times(await converse(app)) == [
        (0, EVENT),
        (0.75, EVENT),
        (1.5, EVENT),
        (2.5, COMMENT),
        (3, EVENT),
    ]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["lf", "crlf"])
async def test_comments_come_between_events_only(newline: bytes) -> None:
    """No comment is written into an event, wherever in the event the app pauses. Pitfall 46."""
    event = newline.join([b"event: x", b"id: 7", b"data: 1", b"data: 2", b"", b""])
    for position in range(1, len(event)):
        app = emitting(event[:position], 2.5, event[position:], 1.5)
        talk = await converse(SSEBatchingMiddleware(app, keepalive_interval=1))
        between = [body for at, body in times(talk) if 0 < at < 2.5]
        assert (position, between) == (position, [])
        assert talk.body == event + COMMENT


async def test_a_stream_whose_lines_end_in_cr_gets_no_comments() -> None:
    """No comment follows a CR, which may be the first half of a CRLF. Pitfall 42."""
    stream = b"data: 1\r\r"
    app = emitting(stream, 2.5, stream, 2.5)
    talk = await converse(SSEBatchingMiddleware(app, keepalive_interval=1))
    assert talk.body == stream * 2


async def test_no_comment_goes_to_a_client_that_does_not_read() -> None:
    """No comment is queued behind a write in flight. Pitfall 46."""

    async def work(emit: Emit) -> None:
        await emit(EVENT)
        await advance(0.5)
        talk.stall()
        await emit(EVENT)
        await advance(3)
        talk.resume()
        await advance(1.5)

    app = SSEBatchingMiddleware(streaming(work), keepalive_interval=1)
    async with Conversation(app) as talk:
        await talk.ended()
    assert times(talk) == [(0, EVENT), (3.5, EVENT), (4.5, COMMENT)]


async def test_no_comment_comes_between_a_chunk_and_its_write() -> None:
    """No comment is sent while a batch waits, whose write will keep the connection open.
    Pitfall 46."""
    app = emitting(EVENT, 0.75, EVENT, 0.5, EVENT, 2.0)  # the second event is due at 1.5
    talk = await converse(SSEBatchingMiddleware(app, max_delay=2, keepalive_interval=1))
    assert times(talk) == [(0, EVENT), (1.5, EVENT * 2), (2.5, COMMENT)]


@pytest.mark.parametrize("early", [True, False])
async def test_a_comment_due_as_half_an_event_comes_is_not_written_into_it(
    early: bool,
) -> None:
    """A comment that is due when half an event comes is not written into it, whichever of the two
    comes first in the event loop."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def agent() -> None:
            await advance(1)
            await send(chunk(b"data: ha"))
            await advance(1.5)
            await send(chunk(b"lf\n\n"))

        async with anyio.create_task_group() as tasks:
            if early:  # the timer of the agent is set before that of the comment
                tasks.start_soon(agent)
                await anyio.wait_all_tasks_blocked()
            await send(start())
            if not early:
                tasks.start_soon(agent)
        await send(last())

    talk = await converse(SSEBatchingMiddleware(app, keepalive_interval=1))
    assert parse(talk.body) == [Event("message", "half", "")]


@pytest.mark.parametrize(
    ("content_type", "header"),
    [
        (b"text/event-stream", (b"Content-Encoding", b"gzip")),
        (b"text/event-stream", (b"content-length", b"18")),
        (b"application/x-ndjson", (b"x", b"y")),
    ],
    ids=["encoded", "length", "another-type"],
)
async def test_comments_are_added_to_plain_event_streams_only(
    content_type: bytes, header: tuple[bytes, bytes]
) -> None:
    """No comment is added to compressed bytes, beyond a `Content-Length`, or in another format."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(content_type, header))
        await advance(3)
        await send(chunk(EVENT))
        await advance(3)
        await send(last(EVENT))

    middleware = SSEBatchingMiddleware(
        app, keepalive_interval=1, media_types=["text/event-stream", "application/x-ndjson"]
    )
    assert (await converse(middleware)).body == EVENT * 2


@pytest.mark.parametrize(
    "unusual",
    [
        {**chunk(b"data: ha"), "x.trace": "42"},
        {"type": "http.response.zerocopysend", "file": 7, "more_body": True},
    ],
    ids=["marked", "zerocopysend"],
)
async def test_no_comment_follows_bytes_that_were_not_inspected(unusual: Message) -> None:
    """No comment follows a message that passes unchanged, because the message may end within an
    event."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(unusual)
        await advance(3)
        await send(chunk(b"lf\n\n"))
        await advance(1.5)
        await send(last())

    talk = await converse(SSEBatchingMiddleware(app, keepalive_interval=1))
    assert [sent.message for sent in talk.sent if sent.at < 3] == [start(), unusual]
    assert talk.bodies[-1] == COMMENT


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(last(EVENT), id="last"),
        pytest.param({**last(EVENT), "x.trace": "42"}, id="last-with-an-unknown-key"),
        pytest.param({"type": "http.response.pathsend", "path": "/answer"}, id="pathsend"),
        pytest.param({"type": "http.response.zerocopysend", "file": 7}, id="zerocopysend"),
    ],
)
async def test_no_comment_follows_the_end_of_the_response(end: Message) -> None:
    """No comment is sent after the message that ends the body, however long the app goes on."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(end)
        await advance(9)

    async with Conversation(SSEBatchingMiddleware(app, keepalive_interval=1)) as talk:
        await talk.ended()
    assert [sent.message for sent in talk.sent] == [start(), end]
    assert talk.error is None


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize(
    "unusual",
    [
        pytest.param({**chunk(b"data: ha"), "x.trace": "42"}, id="with-an-unknown-key"),
        pytest.param(
            {"type": "http.response.zerocopysend", "file": 7, "more_body": True}, id="zerocopysend"
        ),
    ],
)
async def test_a_comment_due_as_an_unusual_message_comes_does_not_follow_it(
    unusual: Message, early: bool
) -> None:
    """A comment that is due in the moment in which the app sends a body that is not looked at is
    taken back: it would stand inside the event that the body begins. Pitfall 46."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def agent() -> None:
            await advance(1)
            await send(unusual)
            await advance(0.5)

        async with anyio.create_task_group() as tasks:
            if early:  # the timer of the agent is set before that of the comment
                tasks.start_soon(agent)
                await anyio.wait_all_tasks_blocked()
            await send(start())
            await send(chunk(EVENT))
            if not early:
                tasks.start_soon(agent)
        await send(last(b"lf\n\n"))

    talk = await converse(SSEBatchingMiddleware(app, keepalive_interval=1))

    messages = [sent.message for sent in talk.sent]
    assert messages[messages.index(unusual) + 1 :] == [last(b"lf\n\n")]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param([b"Hello", b" world.\n\n", b"A paragraph.\n\n"], id="words"),
        pytest.param([b"d", b"ear reader,\n\n", b"hello.\n\n"], id="like-a-field"),
        pytest.param([b"\n\n", b"Hello.\n\n", b"Bye.\n\n"], id="blank-lines-first"),
        pytest.param([b'{"text": "a"}\n\n', b'{"text": "b"}\n\n'], id="json"),
        pytest.param([b"Note: this\n\n", b"is text.\n\n"], id="with-a-colon"),
    ],
)
@pytest.mark.parametrize("merge", [None, "auto"])
async def test_text_without_events_gets_no_comments(text: list[bytes], merge: Any) -> None:
    """A body whose first bytes are no field of an event and no comment is plain text, which many
    apps stream as `text/event-stream`. A comment would be a line of the text. Pitfall 83."""
    steps: list[bytes | float] = []
    for part in text:
        steps += [part, 2.5]

    app = SSEBatchingMiddleware(emitting(*steps), keepalive_interval=1, merge=merge)

    assert (await converse(app)).body == b"".join(text)


@pytest.mark.parametrize(
    "first",
    [b"data: 1\n\n", b"id\n\n", b": hello\n\n", b"\xef\xbb\xbfevent:x\n\n", b"\r\nretry:9\n\n"],
)
async def test_any_field_and_any_comment_begins_an_event_stream(first: bytes) -> None:
    """Comments follow, wherever the first line is cut."""
    for position in range(len(first)):
        app = emitting(first[:position], 0.25, first[position:], 1.5)
        talk = await converse(SSEBatchingMiddleware(app, keepalive_interval=1))
        assert (position, talk.body) == (position, first + COMMENT)


async def test_a_failed_comment_cancels_the_token() -> None:
    """The token is cancelled when the write of a comment fails, also while the app sends nothing.
    Pitfall 53."""
    cancelled: list[tuple[float, CancelReason | None]] = []

    async def work(emit: Emit) -> None:
        token = current_token()
        began = anyio.current_time()
        await emit(EVENT)
        await talk.until(lambda: talk.bodies)
        talk.fail_writes(BrokenPipeError())
        await token.wait_async()
        cancelled.append((anyio.current_time() - began, token.reason))

    app = SSEBatchingMiddleware(streaming(work), keepalive_interval=2)
    async with Conversation(app) as talk:
        await talk.ended()
    assert cancelled == [(2, CancelReason.SEND_FAILED)]


async def test_comments_count_as_bytes_sent_only() -> None:
    """The report counts comments as bytes sent, and not as bytes that came in."""
    reports: list[StreamReport] = []
    app = SSEBatchingMiddleware(emitting(EVENT, 2.5), keepalive_interval=1, on_close=reports.append)
    await converse(app)
    (report,) = reports
    assert report.bytes_in == len(EVENT)
    assert (report.writes, report.bytes_sent) == (4, len(EVENT) + 2 * len(COMMENT))


LINES = st.sampled_from(
    [
        b"data: text",
        b"data",
        b"event: x",
        b"id: 7",
        b": app's own",
        b"retry: 5",
        b"data:\xc3\xa9",
        b"",
    ]
)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes | float]:
    """Generate an event stream that is cut anywhere, with pauses."""
    newline = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    stream = newline.join([*draw(st.lists(LINES, max_size=20)), b""])
    steps: list[bytes | float] = []
    while stream:
        size = draw(st.integers(1, 12))
        steps += [stream[:size], draw(st.sampled_from([0, 0.03125, 0.25, 0.5]))]
        stream = stream[size:]
    return steps


@settings(deadline=None, max_examples=60)
@given(steps=streams())
async def test_the_events_are_the_same_with_comments(steps: list[bytes | float]) -> None:
    """Comments change neither the events nor the other bytes of a stream, wherever the app cuts the
    stream and pauses. Pitfall 42."""
    original = b"".join(step for step in steps if isinstance(step, bytes))
    talk = await converse(SSEBatchingMiddleware(emitting(*steps), keepalive_interval=0.125))
    assert parse(talk.body) == parse(original)
    assert b"".join(body for body in talk.bodies if body != COMMENT) == original
