"""`BatchedResponse`: which messages are buffered, and which are written between the batches."""

from __future__ import annotations

from typing import Any, Final

import anyio
import pytest

from sse_batching._cause import Cause
from sse_batching._loop import current_loop
from sse_batching._response import ALLOWANCE, BatchedResponse
from sse_batching._types import Message
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import chunk, ends_at_once, last, start
from tests.support.virtual_time import advance, spend
from tests.unit.defaults import default_options
from tests.unit.writing import Server

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

DELAY: Final = 4.0

DEBUG: Final[Message] = {"type": "http.response.debug", "info": {}}


class Responding:
    """A response that has started, and its server."""

    def __init__(self, *headers: tuple[bytes, bytes], **options: Any) -> None:
        self.server = Server()
        self.closed: list[Cause | None] = []
        self.options = default_options(**{"max_delay": DELAY, **options})
        self.response = BatchedResponse(
            self.server.send,
            start(b"text/event-stream", *headers),
            self.options,
            current_loop(),
            None,
            self.closed.append,
        )

    async def send(self, *messages: Message) -> None:
        for message in messages:
            await self.response.send(message)

    async def begin_burst(self) -> None:
        """Let a burst begin, so that a chunk that comes a second later waits for a second."""
        await self.send(chunk(b"first"))
        await advance(1)
        assert self.server.bodies == [b"first"]

    async def end(self) -> None:
        self.response.writer.abort()
        await self.response.writer.join(1)


async def test_chunks_are_buffered() -> None:
    """`send` returns before the chunk is delivered, and chunks of a burst go out together."""
    responding = Responding()
    await responding.begin_burst()

    await responding.send(chunk(b"a"), chunk(b"b"))
    assert responding.server.bodies == [b"first"]
    await advance(2)

    assert responding.server.bodies == [b"first", b"ab"]
    await responding.end()


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(DEBUG, id="another-message"),
        pytest.param({**chunk(b"b"), "extension": 1}, id="chunk-with-another-key"),
        pytest.param(
            {"type": "http.response.zerocopysend", "file": 3, "more_body": True}, id="file"
        ),
        pytest.param({"type": "http.response.body", "body": "text", "more_body": True}, id="str"),
    ],
)
async def test_any_other_message_is_written_in_its_place(message: Message) -> None:
    """The message goes to the server as it is, behind the chunks before it, when `send` returns."""
    responding = Responding()
    await responding.begin_burst()

    await responding.send(chunk(b"a"), message)

    assert responding.server.sent[1:] == [chunk(b"a"), message]
    assert responding.server.sent[-1] is message
    assert responding.closed == []
    await responding.end()


@pytest.mark.parametrize(
    "message",
    [
        pytest.param({"type": "http.response.pathsend", "path": "/x"}, id="pathsend"),
        pytest.param({"type": "http.response.zerocopysend", "file": 3}, id="zerocopysend"),
    ],
)
async def test_a_message_with_a_file_can_end_the_response(message: Message) -> None:
    """The end is reported when the message is delivered."""
    responding = Responding()

    await responding.send(message)

    assert (responding.server.sent, responding.closed) == ([message], [None])
    await responding.end()


async def test_the_last_chunk_is_joined_with_the_batch() -> None:
    """`send` of the last message returns when everything is delivered."""
    responding = Responding()
    await responding.begin_burst()

    await responding.send(chunk(b"a"), last(b"b"))

    assert responding.server.sent[1:] == [last(b"ab")]
    assert responding.closed == [None]


@pytest.mark.parametrize("kind", [bytearray, memoryview])
async def test_a_body_that_the_app_can_change_is_copied(kind: Any) -> None:
    """The app may reuse its buffer, and daphne accepts only `bytes`."""
    responding = Responding()
    await responding.begin_burst()
    buffer = bytearray(b"a")

    await responding.send(chunk(kind(buffer)))
    buffer[:] = b"b"
    await advance(2)

    assert responding.server.bodies[-1] == b"a"
    assert type(responding.server.bodies[-1]) is bytes
    await responding.end()


async def test_only_the_first_empty_chunk_is_written() -> None:
    """An empty first chunk can be meant to send the headers (daphne)."""
    responding = Responding()

    for body in (b"", b"", b"a", b""):
        await responding.send(chunk(body))
        await advance(DELAY)

    assert responding.server.bodies == [b"", b"a"]
    await responding.end()


@pytest.mark.parametrize("body", [b"abcdefgh", b"ab"])
async def test_the_first_bytes_are_recorded(body: bytes) -> None:
    """`record_bytes` limits the record, which has chunks of every kind and the last message."""
    responding = Responding(record_bytes=4)

    await responding.send(chunk(b"1"), {**chunk(b"2"), "extension": 1}, last(body))

    assert responding.response.recorded == b"12" + body[:2]


async def test_the_fast_path_is_closed_while_bytes_are_recorded() -> None:
    """The fast path does not record. It opens when the record has `record_bytes`."""
    responding = Responding(record_bytes=2)
    fast: list[bool] = []
    for _ in range(3):
        await responding.send(chunk(b"x"))
        fast.append(responding.response.buffer.add_nowait(b"y", current_loop().time()))

    assert fast == [False, True, True]
    assert responding.response.recorded == b"xx"
    await responding.end()


async def test_without_batching_each_chunk_is_delivered() -> None:
    """With `enabled=False`, `send` returns when its chunk is delivered."""
    responding = Responding(batching=False)

    for body in (b"a", b"b"):
        await responding.send(chunk(body))
        assert responding.server.bodies[-1] == body

    assert responding.server.bodies == [b"a", b"b"]
    await responding.end()


async def test_changed_options_apply_to_the_next_chunk() -> None:
    """The fast path is closed until a chunk on the slow path has seen the options."""
    responding = Responding()
    await responding.begin_burst()
    assert responding.response.buffer.add_nowait(b"a", current_loop().time())

    responding.response.configure(default_options(max_delay=DELAY, batching=False))
    assert not responding.response.buffer.add_nowait(b"b", current_loop().time())
    await responding.send(chunk(b"b"))

    assert responding.server.bodies == [b"first", b"ab"]
    assert not responding.response.buffer.add_nowait(b"c", current_loop().time())
    await responding.end()


@pytest.mark.parametrize(
    ("header", "comments"),
    [
        pytest.param((b"cache-control", b"no-store"), 2, id="event-stream"),
        pytest.param((b"content-encoding", b"gzip"), 0, id="compressed"),
    ],
)
async def test_only_a_plain_event_stream_gets_comments(
    header: tuple[bytes, bytes], comments: int
) -> None:
    """`keepalive_interval` has no effect on a response that a comment would break."""
    responding = Responding(header, keepalive_interval=15)

    await advance(40)

    assert len(responding.server.sent) == comments
    await responding.end()


async def test_send_waits_while_the_buffer_is_full() -> None:
    """This is the backpressure that the app feels."""
    responding = Responding(max_batch_bytes=100)
    responding.server.block()

    with anyio.move_on_after(60) as waited:
        await responding.send(chunk(bytes(100)))

    assert waited.cancelled_caught
    await responding.end()


async def test_an_app_that_keeps_the_loop_busy_yields() -> None:
    """`send` yields once the iteration has lasted too long. An app that never awaits anything else
    would freeze the event loop."""
    responding = Responding()
    await responding.begin_burst()
    await anyio.wait_all_tasks_blocked()

    assert ends_at_once(responding.send(chunk(b"a")))
    spend(0.1)

    assert not ends_at_once(responding.send(chunk(b"b")))
    await responding.end()


async def test_the_first_chunk_in_an_iteration_that_is_already_too_long_does_not_yield() -> None:
    """Other tasks have made it too long, and to yield costs as much as several events."""
    responding = Responding()
    await responding.begin_burst()
    await anyio.wait_all_tasks_blocked()
    latency, loop = current_loop().latency, current_loop()
    latency.too_long(loop.time())
    spend(0.1)

    assert not responding.response.must_yield(loop.time())
    assert not responding.response.must_yield(loop.time() + ALLOWANCE / 2)
    assert responding.response.must_yield(loop.time() + 2 * ALLOWANCE)
    await responding.end()
