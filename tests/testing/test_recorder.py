"""`Recorder`: a record of the messages between an app and its server."""

from __future__ import annotations

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware
from sse_batching.testing import Conversation, Recorder
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import chunk, converse, emitting, last, sending, start

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

REQUEST = {"type": "http.request", "body": b"", "more_body": False}


async def test_both_sides_are_recorded_in_order() -> None:
    """Each message is recorded with its side and its time."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(start())
        await anyio.sleep(2)
        await send(last(b"a"))

    recorder = Recorder(app)
    await converse(recorder)

    (recording,) = recorder.recordings
    said = [(recorded.at, recorded.by, recorded.message) for recorded in recording.messages]
    assert said == [
        (0, "server", REQUEST),
        (0, "app", start()),
        (2, "app", last(b"a")),
    ]
    assert recording.received == [REQUEST]
    assert recording.sent == [start(), last(b"a")]
    assert recording.ended


async def test_the_two_sides_of_the_middleware_can_be_compared() -> None:
    """One recorder inside the middleware and one outside show what it changes."""
    inside = Recorder(emitting(b"a", 0.1, b"b", 0.05, b"c"))
    outside = Recorder(SSEBatchingMiddleware(inside, max_delay=1))
    await converse(outside)

    bodies = [
        [message.get("body") for message in recorder.recordings[0].sent]
        for recorder in (inside, outside)
    ]
    assert bodies == [[None, b"a", b"b", b"c", b""], [None, b"a", b"bc"]]


async def test_a_message_is_kept_as_it_was() -> None:
    """The record holds copies, because an app may change a message and send it again."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        message: Message = start()
        await send(message)
        message.clear()
        message.update(last(b"x"))
        await send(message)

    recorder = Recorder(app)
    await converse(recorder)

    assert recorder.recordings[0].sent == [start(), last(b"x")]


async def test_a_write_that_waits_is_seen_to_wait() -> None:
    """`taken_at` is None until the server's `send` returns, and then the time of that."""
    recorder = Recorder(sending(start(), chunk(b"a"), last()))
    async with Conversation(recorder, after={1: Conversation.stall}) as talk:
        await talk.until(lambda: len(talk.sent) == 1 and talk.in_send)
        waiting = recorder.recordings[0].messages[1]
        await anyio.sleep(3)
        assert waiting.taken_at is None

        talk.resume()
        await talk.ended()

    assert waiting.taken_at == 3


async def test_a_write_that_fails_is_kept_with_its_error() -> None:
    """The record also holds the error that the app raises then."""
    broken = ConnectionResetError("broken")
    recorder = Recorder(sending(start(), last()))
    async with Conversation(recorder, after={1: lambda it: it.fail_writes(broken)}) as talk:
        await talk.ended()

    (recording,) = recorder.recordings
    assert [recorded.error for recorded in recording.messages] == [None, broken]
    assert recording.error is broken


async def test_a_recording_can_be_read() -> None:
    """The string of a recording has one line for each message."""
    recorder = Recorder(sending(start(b"text/plain"), last(b"a")))
    await converse(recorder)

    assert str(recorder.recordings[0]).splitlines() == [
        "    0.000 -> http.response.start status=200 headers=[(b'content-type', b'text/plain')]",
        "    0.000 -> http.response.body body=b'a' more_body=False",
    ]


async def test_other_scopes_are_recorded_as_well() -> None:
    """The messages of a lifespan are recorded like those of a request."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        pass

    recorder = Recorder(app)
    await recorder({"type": "lifespan"}, receive, send)

    (recording,) = recorder.recordings
    assert recording.received == [{"type": "lifespan.startup"}]
    assert recording.sent == [{"type": "lifespan.startup.complete"}]
