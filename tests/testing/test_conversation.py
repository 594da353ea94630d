"""`Conversation`: how the client and the server of one request act on an app."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import chunk, emitting, last, sending, start

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

THREE = sending(start(), chunk(b"a"), chunk(b"b"), last(b"c"))


async def test_the_client_leaves_after_a_message() -> None:
    """`send` still succeeds after that, but the client gets nothing more."""
    async with Conversation(THREE, after={2: Conversation.leave}) as talk:
        await talk.ended()

    assert talk.bodies == [b"a"]
    assert talk.left_early
    assert not talk.completed


async def test_the_client_can_leave_before_anything_is_sent() -> None:
    """With `after={0: ...}` the client has left before the app is called."""
    received: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        received.append(await receive())
        await THREE(scope, receive, send)

    async with Conversation(app, after={0: Conversation.leave}) as talk:
        await talk.ended()

    assert received == [{"type": "http.disconnect"}]
    assert not talk.sent


async def test_writes_fail_after_a_message() -> None:
    """After `fail_writes`, `send` raises the given error."""
    broken = ConnectionResetError("broken")

    async with Conversation(THREE, after={2: lambda it: it.fail_writes(broken)}) as talk:
        await talk.ended()

    assert talk.error is broken
    assert talk.bodies == [b"a"]


async def test_the_client_reads_no_more_after_a_message() -> None:
    """After `stall`, `send` waits until `resume`."""
    async with Conversation(THREE, after={2: Conversation.stall}) as talk:
        await talk.until(lambda: len(talk.sent) == 2 and talk.in_send)
        await anyio.sleep(1)
        assert talk.bodies == [b"a"]

        talk.resume()
        await talk.ended()

    assert talk.body == b"abc"
    assert not talk.left_early


async def test_a_send_that_is_blocked_returns_when_the_client_leaves() -> None:
    """The `send` raises nothing, as on real servers."""
    async with Conversation(THREE, after={2: Conversation.stall}) as talk:
        await talk.until(lambda: len(talk.sent) == 2 and talk.in_send)

        talk.leave()
        await talk.ended()

    assert talk.error is None
    assert talk.bodies == [b"a"]


async def test_unread_bytes_make_the_app_wait() -> None:
    """The server takes the message that crosses `unread_limit`, and no more until it is read."""
    app = sending(start(), *[chunk(b"12345")] * 4, last())

    async with Conversation(app, unread_limit=5) as talk:
        await talk.until(lambda: talk.in_send and len(talk.sent) == 3)
        await anyio.sleep(1)
        assert talk.body == b"12345" * 2

        assert (await talk.read() or {})["type"] == "http.response.start"
        assert await talk.read() == chunk(b"12345")
        await talk.until(lambda: len(talk.bodies) == 3)

    assert len(talk.bodies) == 3


async def test_reading_ends_where_the_response_ends() -> None:
    """`read` returns each message once, and then None."""
    async with Conversation(THREE) as talk:
        read = [await talk.read() for _ in range(5)]

    assert read == [start(), chunk(b"a"), chunk(b"b"), last(b"c"), None]


async def test_a_body_comes_part_by_part() -> None:
    """Each part is one message, and `more_body` is False in the last."""
    received: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        received.extend([await receive(), await receive()])

    async with Conversation(app, body=[b"one", b"two"]) as talk:
        await talk.ended()

    assert received == [
        {"type": "http.request", "body": b"one", "more_body": True},
        {"type": "http.request", "body": b"two", "more_body": False},
    ]


async def test_a_body_may_be_an_async_iterable() -> None:
    """The next part is fetched when the app asks for it."""
    received: list[tuple[float, bytes, bool]] = []

    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        await anyio.sleep(2)
        yield b"two"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        began = anyio.current_time()
        for _ in range(3):
            message = await receive()
            received.append((anyio.current_time() - began, message["body"], message["more_body"]))

    async with Conversation(app, body=parts()) as talk:
        await talk.ended()

    assert received == [(0, b"one", True), (2, b"two", True), (2, b"", False)]


async def test_a_client_can_leave_in_the_middle_of_its_upload() -> None:
    """A `receive` that waits for the next part returns `http.disconnect`."""
    received: list[Message] = []

    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        await anyio.sleep_forever()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        received.extend([await receive(), await receive(), await receive()])

    async with Conversation(app, body=parts()) as talk:
        await talk.until(lambda: talk.taken == 1)
        await anyio.sleep(1)
        talk.leave()
        await talk.ended()

    assert [message["type"] for message in received] == ["http.request"] + ["http.disconnect"] * 2


async def test_trailers_belong_to_the_response() -> None:
    """A response that announces trailers is complete after them, not after its body."""
    trailers = {"type": "http.response.trailers", "headers": [(b"x", b"1")], "more_trailers": False}
    beginning = {**start(), "trailers": True}

    async with Conversation(sending(beginning, last(b"a"), trailers)) as talk:
        await talk.ended()

    assert [sent.message for sent in talk.sent] == [beginning, last(b"a"), trailers]
    assert talk.completed


async def test_without_its_trailers_a_response_is_not_complete() -> None:
    """The client still waits for the trailers that were announced."""
    async with Conversation(sending({**start(), "trailers": True}, last(b"a"))) as talk:
        await talk.ended()

    assert not talk.completed


async def test_the_disconnect_may_be_returned_only_once() -> None:
    """A second `receive` then never returns, as on hypercorn and daphne."""
    received: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        received.append(await receive())
        with anyio.move_on_after(5):
            received.append(await receive())

    leaving = Conversation(app, after={0: Conversation.leave}, repeat_disconnect=False)
    async with leaving as talk:
        await talk.ended()

    assert received == [{"type": "http.disconnect"}]


async def test_an_app_that_does_not_end_is_an_error() -> None:
    """The test fails and does not hang, and the app does not outlive it."""
    ended: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    with pytest.raises(TimeoutError):
        async with Conversation(app):
            pass
    assert ended


async def test_what_a_test_raises_comes_out_alone() -> None:
    """An assertion that fails is in no exception group, and the app is not waited for."""
    with pytest.raises(ZeroDivisionError):
        async with Conversation(emitting(b"a", 1000.0)):
            raise ZeroDivisionError


async def test_a_test_that_is_cancelled_ends() -> None:
    """The cancellation of a test cancels its app as well."""
    with anyio.move_on_after(1) as limit:
        async with Conversation(emitting(b"a", 1000.0)) as talk:
            await anyio.sleep(5)

    assert limit.cancelled_caught
    assert talk.body == b"a"
