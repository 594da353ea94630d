"""Messages of a batched response that are not chunks pass unchanged, and in order (D6)."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings, strategies as st
from starlette.types import Message, Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware, current_token
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import chunk, converse, last, sending, start
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]


PUSH: Message = {"type": "http.response.push", "path": "/style.css", "headers": []}
DEBUG: Message = {"type": "http.response.debug", "info": {"template": "chat.html"}}
HINT: Message = {"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]}
UNKNOWN: Message = {"type": "http.response.whatever", "body": b"not ours", "more_body": True}
TRAILERS: Message = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]}
PATHSEND: Message = {"type": "http.response.pathsend", "path": "/tmp/answer"}
ZEROCOPY: Message = {"type": "http.response.zerocopysend", "file": 7, "more_body": True}
MARKED: Message = {**chunk(b"marked"), "x.trace": "42"}
NO_BODY_BUT_A_MARK: Message = {
    "type": "http.response.body",
    "more_body": True,
    "x.trace": "42",
}

BETWEEN = [PUSH, DEBUG, HINT, UNKNOWN, ZEROCOPY, MARKED, NO_BODY_BUT_A_MARK]


@pytest.mark.parametrize("other", BETWEEN, ids=lambda message: str(message["type"])[14:])
async def test_another_message_stays_in_its_place_among_the_chunks(other: Message) -> None:
    """The chunks before the message are written first, and the message object is the app's own.
    Pitfall 36."""
    app = sending(start(), chunk(b"a"), chunk(b"b"), other, chunk(b"c"), chunk(b"d"), last())
    talk = await converse(SSEBatchingMiddleware(app, max_delay=60))
    assert [sent.message for sent in talk.sent] == [start(), chunk(b"ab"), other, last(b"cd")]
    assert talk.sent[2].message is other


@pytest.mark.parametrize("other", BETWEEN, ids=lambda message: str(message["type"])[14:])
async def test_another_message_is_delivered_when_its_send_returns(other: Message) -> None:
    """Only chunks are buffered."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(chunk(b"a"))
        await send(other)
        assert talk.sent[-1].message is other
        await send(last())

    async with Conversation(SSEBatchingMiddleware(app, max_delay=60)) as talk:
        await talk.ended()
    assert talk.error is None


@pytest.mark.parametrize("before", [HINT, PUSH, DEBUG, UNKNOWN])
@pytest.mark.parametrize("token", [False, True])
async def test_what_comes_before_the_start_passes(before: Message, token: bool) -> None:
    """Early hints, and any other message before it, do not start a response. Pitfall 45."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if token:
            current_token()
        await send(before)
        await sending(start(), chunk(b"a"), chunk(b"b"), last())(scope, receive, send)

    talk = await converse(SSEBatchingMiddleware(app))
    assert talk.sent[0].message is before
    assert [sent.message for sent in talk.sent[1:]] == [start(), last(b"ab")]


async def test_trailers_pass_after_the_end_of_the_body() -> None:
    """Trailers follow the last body message, and all bytes of the body. Pitfall 45."""
    arrived: list[Message] = []

    async def record(index: int, message: Message) -> None:
        arrived.append(message)

    first = {**start(), "trailers": True}
    app = sending(first, chunk(b"a"), chunk(b"b"), last(b"c"), TRAILERS)
    await converse(SSEBatchingMiddleware(app), on_send=record)
    assert arrived == [first, last(b"abc"), TRAILERS]
    assert arrived[0] is first
    assert arrived[2] is TRAILERS


@pytest.mark.parametrize(
    "end",
    [PATHSEND, {**ZEROCOPY, "more_body": False}],
    ids=["pathsend", "zerocopysend"],
)
@pytest.mark.parametrize("content_type", [b"text/event-stream", b"text/plain"])
async def test_an_end_of_another_kind_is_an_end(end: Message, content_type: bytes) -> None:
    """A file that the server sends ends a response as well. A later `http.disconnect` cancels
    nothing."""
    cancelled: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        await send(start(content_type))
        await send(chunk(b"a"))
        await send(end)
        assert talk.sent[-1].message is end
        talk.leave()  # as servers say after each response
        await advance(20)
        cancelled.append(token.cancelled)

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await advance(25)
    assert talk.error is None
    assert [sent.message for sent in talk.sent] == [start(content_type), chunk(b"a"), end]
    assert cancelled == [False]


@pytest.mark.parametrize("pending", [[], [chunk(b"a"), chunk(b"b")]], ids=["", "pending"])
async def test_a_last_message_keeps_what_else_is_in_it(pending: list[Message]) -> None:
    """A last message with an unknown key is still joined with the pending batch."""
    talk = await converse(
        SSEBatchingMiddleware(sending(start(), *pending, {**last(b"end"), "x.trace": "42"}))
    )
    assert talk.completed
    assert talk.body.endswith(b"end")
    assert len(talk.sent) == 2
    assert talk.sent[-1].message == {**last(talk.body), "x.trace": "42"}


@settings(deadline=None, max_examples=60)
@given(
    messages=st.lists(
        st.sampled_from([chunk(b"a"), chunk(bytearray(b"b")), chunk(b""), *BETWEEN]), max_size=20
    )
)
async def test_messages_of_the_app_are_never_changed(messages: list[Message]) -> None:
    """The messages of the app stay as they are, and all but chunks arrive as the same objects."""
    messages = [start(), *(dict(message) for message in messages), last(b"end")]
    before = copy.deepcopy(messages)
    talk = await converse(SSEBatchingMiddleware(sending(*messages)))
    assert messages == before
    arrived = {id(sent.message) for sent in talk.sent}
    assert all(id(message) in arrived for message in messages if not is_chunk(message))


def is_chunk(message: Message) -> bool:
    return set(message) == {"type", "body", "more_body"} and "body" in str(message["type"])
