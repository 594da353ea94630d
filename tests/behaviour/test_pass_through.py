"""Other scopes and other responses pass through unchanged (D6)."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware, current_stream, current_token
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import EVENT_STREAM, chunk, converse, emitting, last, sending, start, times
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]


class Call:
    """An ASGI app that keeps the arguments of its call."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self.keys = set(scope)


async def nothing(*args: object) -> Any:
    """Stand in for `receive` or `send`, without any effect."""


@pytest.mark.parametrize("kind", ["lifespan", "websocket", "webtransport"])
async def test_other_scopes_pass_untouched(kind: str) -> None:
    """The app gets the scope, `receive` and `send` of the server, as the same objects.
    Pitfall 45."""
    app = Call()
    scope = {"type": kind, "path": "/"}
    await SSEBatchingMiddleware(app)(scope, nothing, nothing)
    assert app.scope is scope
    assert (app.receive, app.send) == (nothing, nothing)
    assert scope == {"type": kind, "path": "/"}


async def test_enabled_is_called_once_for_each_http_request() -> None:
    """`enabled` gets the scope of the request, and decides for the whole of it."""
    app = Call()
    asked: list[Scope] = []

    def enabled(scope: Scope) -> bool:
        asked.append(scope)
        return False

    middleware = SSEBatchingMiddleware(app, enabled=enabled)
    scope = {"type": "http", "path": "/"}
    for each in (scope, {"type": "websocket", "path": "/"}):
        await middleware(each, nothing, nothing)
    assert asked == [scope]
    assert scope == {"type": "http", "path": "/"}


async def test_the_messages_of_a_request_that_is_not_enabled_pass_untouched() -> None:
    """The server gets the very messages of the app, one by one."""
    messages = [start(), chunk(b"data: a\n\n"), chunk(b""), last()]

    async with Conversation(
        SSEBatchingMiddleware(sending(*messages), enabled=lambda scope: False, max_delay=1.0)
    ) as talk:
        await talk.ended()
    assert [sent.message for sent in talk.sent] == messages
    assert all(sent.message is made for sent, made in zip(talk.sent, messages, strict=True))


async def test_only_the_requests_that_are_enabled_are_batched() -> None:
    """Responses of one route may be batched while those of another are not."""
    app = SSEBatchingMiddleware(
        emitting(b"a", b"b", b"c", 1.0), enabled=lambda scope: scope["path"] == "/chat"
    )
    assert (await converse(app, path="/chat")).bodies == [b"abc"]
    assert (await converse(app, path="/raw")).bodies == [b"a", b"b", b"c"]


async def test_the_scope_says_of_the_server_what_the_server_said() -> None:
    """The scope is not changed. A higher `spec_version` would turn off Starlette's own disconnect
    listener."""
    app = Call()
    scope = Conversation(app).scope
    before = copy.deepcopy(dict(scope))
    await SSEBatchingMiddleware(app)(scope, nothing, nothing)
    assert app.scope is scope
    assert scope == before


STREAM = (chunk(b"a"), chunk(b"b"), chunk(b"c"), last())


@pytest.mark.parametrize(
    ("method", "response"),
    [
        ("GET", start(b"application/json")),
        ("GET", start(b"text/event-streams")),
        ("GET", {"type": "http.response.start", "status": 200, "headers": []}),
        ("GET", {"type": "http.response.start", "status": 200}),
        ("GET", start(status=204)),
        ("GET", start(status=304)),
        ("HEAD", start()),
    ],
    ids=["json", "another", "no-type", "no-headers", "204", "304", "HEAD"],
)
@pytest.mark.parametrize("token", [False, True], ids=["", "token"])
async def test_other_responses_pass_untouched(method: str, response: Message, token: bool) -> None:
    """Each message object reaches the server at once, whether or not the app has asked for its
    token. Pitfall 45."""
    messages = (response, *STREAM)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if token:
            current_token()
        for message in messages:
            await send(message)
            assert talk.sent[-1].message is message

    async with Conversation(SSEBatchingMiddleware(app), method=method) as talk:
        await talk.ended()
    assert talk.error is None
    assert len(talk.sent) == len(messages)


@pytest.mark.parametrize(
    "content_type",
    [b"text/event-stream", b"text/event-stream; charset=utf-8", b"Text/Event-Stream ;x=y"],
)
@pytest.mark.parametrize("name", [b"content-type", b"Content-Type"])
async def test_an_event_stream_is_one_however_it_is_written(
    name: bytes, content_type: bytes
) -> None:
    """Parameters and the case make no difference, according to HTTP."""
    headers = [(b"x-other", b"1"), (name, content_type)]
    app = sending({"type": "http.response.start", "status": 200, "headers": headers}, *STREAM)
    assert (await converse(SSEBatchingMiddleware(app))).bodies == [b"abc"]


async def test_the_media_types_to_batch_can_be_chosen() -> None:
    """Only responses of the listed media types are batched."""

    def app(content_type: bytes) -> ASGIApp:
        return SSEBatchingMiddleware(
            sending(start(content_type), *STREAM),
            media_types=["application/x-ndjson", "Application/JSONL"],
        )

    assert (await converse(app(b"application/x-ndjson"))).bodies == [b"abc"]
    assert (await converse(app(b"application/jsonl"))).bodies == [b"abc"]
    assert (await converse(app(EVENT_STREAM))).bodies == [b"a", b"b", b"c"]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("status", [200, 201, 500])
async def test_any_method_and_status_with_a_body_is_batched(method: str, status: int) -> None:
    """Most requests to agents use POST, and a response with an error status may stream as well."""
    app = SSEBatchingMiddleware(sending(start(status=status), *STREAM))
    assert (await converse(app, method=method)).bodies == [b"abc"]


async def test_headers_that_can_be_read_once_arrive_whole() -> None:
    """ASGI allows any iterable. The server gets all headers, even if they can be read only once."""
    headers = [(b"x-before", b"1"), (b"content-type", EVENT_STREAM), (b"x-after", b"2")]
    for content_type in (EVENT_STREAM, b"text/plain"):
        headers[1] = (b"content-type", content_type)
        iterator = iter(headers)
        message = {"type": "http.response.start", "status": 200, "headers": iterator}
        talk = await converse(SSEBatchingMiddleware(sending(message, *STREAM)))
        assert list(talk.sent[0].message["headers"]) == headers
        assert message["headers"] is iterator


async def test_one_middleware_inside_another_adds_nothing() -> None:
    """The outer middleware does all the work, with its options and its token."""
    tokens = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        tokens.append(current_token())
        app = emitting(b"a", 0.1875, b"b", 0.125, b"c", 0.125, b"d", 1.0)
        await app(scope, receive, send)

    async def between(scope: Scope, receive: Receive, send: Send) -> None:
        tokens.append(current_token())
        await SSEBatchingMiddleware(app, max_delay=30)(scope, receive, send)
        current_stream()  # still found between the two middlewares

    talk = await converse(SSEBatchingMiddleware(between, max_delay=0.25))
    assert tokens[0] is tokens[1]
    assert times(talk) == [(0, b"a"), (0.375, b"bc"), (0.6875, b"d")]


async def test_one_instance_serves_requests_side_by_side() -> None:
    """Each request has its own state, and the middleware has none."""
    app = SSEBatchingMiddleware(emitting(b"a", 0.1875, b"b", 0.125, b"c", 1.0), max_delay=0.25)
    async with Conversation(app) as first:
        await advance(0.1875)
        async with Conversation(app) as second:
            await second.ended()
        await first.ended()
    for talk in (first, second):
        assert times(talk) == [(0, b"a"), (0.375, b"bc")]
