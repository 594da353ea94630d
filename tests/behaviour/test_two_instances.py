"""One instance of the middleware inside another: a mounted app may bring its own."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sse_batching import (
    CancellationToken,
    CancelReason,
    SSEBatchingMiddleware,
    StreamReport,
    current_stream,
    current_token,
    formats,
    get_token,
)
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import chunk, last, start
from tests.support.leftovers import leftovers_settled, living_tasks, pending_timers
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

LINES = ("application/x-ndjson",)
EVENTS = ("text/event-stream",)


async def pass_on(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    return response


BASE_HTTP = Middleware(BaseHTTPMiddleware, dispatch=pass_on)


class Answer:
    """An app with twelve deltas, as events at `/sub/sse` and as lines of JSON at `/sub/lines`."""

    def __init__(self, outer: dict[str, Any], inner: dict[str, Any], *between: Middleware) -> None:
        self.tokens: list[CancellationToken] = []
        self.closed = False
        sub = Starlette(
            routes=[Route("/sse", self.events), Route("/lines", self.lines)],
            middleware=[Middleware(SSEBatchingMiddleware, **inner)],
        )
        self.app = Starlette(
            routes=[Mount("/sub", sub)],
            middleware=[Middleware(SSEBatchingMiddleware, **outer), *between],
        )

    async def events(self, request: Request) -> Response:
        self.tokens.append(get_token(request))
        return StreamingResponse(
            self.deltas('data: {{"delta": "{}"}}\n\n'), media_type="text/event-stream"
        )

    async def lines(self, request: Request) -> Response:
        self.tokens.append(get_token(request))
        return StreamingResponse(
            self.deltas('{{"delta": "{}"}}\n'), media_type="application/x-ndjson"
        )

    async def deltas(self, form: str) -> AsyncIterator[str]:
        self.tokens.append(current_token())
        try:
            for number in range(12):
                yield form.format(number)
                await anyio.sleep(0.01)
        finally:
            self.closed = True


MERGING: dict[str, Any] = {
    "media_types": EVENTS + LINES,
    "merge": [formats.DeltaFormat(delta="delta")],
}


@pytest.mark.parametrize(
    ("outer", "inner", "path", "batched", "merged"),
    [
        ({}, MERGING, "/sub/lines", True, True),
        ({}, {}, "/sub/lines", False, False),
        ({}, {}, "/sub/sse", True, False),
        ({"media_types": LINES}, {}, "/sub/sse", True, False),
        ({"media_types": LINES}, MERGING, "/sub/sse", True, True),
        ({"enabled": lambda scope: False}, MERGING, "/sub/sse", True, True),
        ({"enabled": lambda scope: "/lines" in scope["path"]}, MERGING, "/sub/sse", True, True),
        ({"enabled": lambda scope: False}, {"enabled": lambda scope: False}, "/sub/sse", False, 0),
        (MERGING, {}, "/sub/sse", True, True),
    ],
)
@pytest.mark.parametrize("between", [[], [BASE_HTTP]], ids=["direct", "base-http"])
async def test_the_inner_instance_batches_what_the_outer_one_lets_pass(
    outer: dict[str, Any],
    inner: dict[str, Any],
    path: str,
    batched: bool,
    merged: bool,
    between: list[Middleware],
) -> None:
    """An inner instance works with its own options if the outer one leaves the response alone.
    Pitfall 78."""
    answer = Answer(outer, inner, *between)
    before, timers = living_tasks(), pending_timers()

    async with Conversation(answer.app, path=path) as talk:
        await talk.ended()
    await leftovers_settled()

    assert talk.error is None
    writes = [body for body in talk.bodies if body]
    assert (len(writes) < 8) is batched
    assert (talk.body.count(b"delta") < 12) is bool(merged)
    assert all(b"%d" % number in talk.body for number in range(12))
    assert len({id(token) for token in answer.tokens}) == 1
    assert (living_tasks(), pending_timers()) == (before, timers)


@pytest.mark.parametrize("between", [[], [BASE_HTTP]], ids=["direct", "base-http"])
@pytest.mark.parametrize("path", ["/sub/sse", "/sub/lines"])
async def test_a_client_that_leaves_ends_a_stream_of_either_instance(
    path: str, between: list[Middleware]
) -> None:
    """The one token is cancelled, the generator is closed, and the instance that batches the
    response makes the one report."""
    reports: list[tuple[str, StreamReport]] = []

    def reporting(name: str) -> Callable[[StreamReport], None]:
        return lambda report: reports.append((name, report))

    answer = Answer(
        {"on_close": reporting("outer"), "grace_period": 9.0},
        {"on_close": reporting("inner"), "grace_period": 0.02, "media_types": LINES},
        *between,
    )
    before, timers = living_tasks(), pending_timers()

    async with Conversation(answer.app, path=path) as talk:
        await talk.until(lambda: b"2" in talk.body)
        talk.leave()
        await talk.ended()
    await leftovers_settled()

    assert talk.error is None
    assert answer.closed
    assert {token.reason for token in answer.tokens} == {CancelReason.CLIENT_DISCONNECTED}
    ((name, report),) = reports
    assert (name, report.outcome) == ("outer" if path == "/sub/sse" else "inner", "incomplete")
    assert (living_tasks(), pending_timers()) == (before, timers)


async def test_an_inner_instance_says_once_that_it_does_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If both instances would batch a response, one warning names the ways out, for each pair.
    Pitfall 78."""
    answer = Answer({}, {"max_delay": 0.2})

    for path in ("/sub/lines", "/sub/sse", "/sub/sse"):
        async with Conversation(answer.app, path=path) as talk:
            await talk.ended()

    (record,) = [record for record in caplog.records if record.name == "sse_batching"]
    assert record.levelno == logging.WARNING
    for way_out in ("Remove one", "media_types", "enabled="):
        assert way_out in record.message


async def test_three_instances_share_one_request(caplog: pytest.LogCaptureFixture) -> None:
    """Of three instances, the outermost one that would batch the response does."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        for _ in range(3):
            await send(chunk(b"data: 1\n\n"))
        await send(last())

    names: list[str] = []

    def reporting(name: str) -> Callable[[StreamReport], None]:
        return lambda report: names.append(name)

    wrapped: ASGIApp = app
    for name, types in (("inner", EVENTS), ("middle", EVENTS), ("outer", LINES)):
        wrapped = SSEBatchingMiddleware(wrapped, media_types=types, on_close=reporting(name))

    async with Conversation(wrapped) as talk:
        await talk.ended()

    assert len(talk.bodies) == 1
    assert names == ["middle"]
    assert len(caplog.records) == 1


async def test_a_compressor_in_between_gets_batches() -> None:
    """`GZipMiddleware` holds the start back until the first chunk. The chunks after the first are
    batched before they are compressed."""
    answer = Answer({}, MERGING, Middleware(GZipMiddleware, minimum_size=1))

    async with Conversation(
        answer.app, path="/sub/lines", headers=[(b"accept-encoding", b"gzip")]
    ) as talk:
        await talk.ended()

    assert talk.error is None
    assert len([body for body in talk.bodies if body]) < 8


@pytest.mark.parametrize("inner_sends_last", [False, True])
async def test_an_app_that_calls_another_keeps_its_own_stream(inner_sends_last: bool) -> None:
    """An app collects the response of an app with its own instance, and then streams itself: its
    token is cancelled when the client leaves, and its stream is batched."""
    collected: list[Any] = []
    reasons: list[CancelReason | None] = []

    async def part(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(chunk(b"part\n\n"))
        if inner_sends_last:
            await send(last())

    async def collect(message: Any) -> None:
        collected.append(message)

    mounted = SSEBatchingMiddleware(part, max_delay=1.0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await mounted({**scope, "path": "/part"}, receive, collect)
        await send(start())
        await mounted({**scope, "path": "/part"}, receive, collect)
        for _ in range(3):
            await send(chunk(b"data: 1\n\n"))
        await current_token().wait_async()
        reasons.append(current_token().reason)

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await talk.until(lambda: talk.bodies)
        talk.leave()
        await talk.ended()

    assert len(talk.bodies) == 1
    assert len(collected) == (6 if inner_sends_last else 4)
    assert reasons == [CancelReason.CLIENT_DISCONNECTED]


@pytest.mark.parametrize("ends", ["raise", "return"])
async def test_what_the_inner_app_has_sent_is_delivered_before_its_end(ends: str) -> None:
    """The middlewares in between see the chunks before the exception or the return of the app."""
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(chunk(b"a"))
        await advance(1)
        await send(chunk(b"b"))
        await send(chunk(b"c"))
        if ends == "raise":
            raise ValueError("of the app")

    inner = SSEBatchingMiddleware(app, max_delay=5.0)

    async def between(scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: Any) -> None:
            seen.append(message.get("body"))
            await send(message)

        try:
            await inner(scope, receive, note)
        except ValueError:
            seen.append("raised")
            raise
        seen.append("returned")

    async with Conversation(SSEBatchingMiddleware(between, media_types=LINES)) as talk:
        await talk.ended()

    assert talk.body == b"abc"
    assert seen[-1] == f"{ends}ed".replace("raiseed", "raised")
    assert seen[0] is None
    assert b"".join(part for part in seen if isinstance(part, bytes)) == b"abc"
    assert isinstance(talk.error, ValueError) is (ends == "raise")


async def test_configure_before_the_response_reaches_the_inner_instance() -> None:
    """What `configure` has changed before the response starts holds for the instance that batches
    it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        current_stream().configure(enabled=False)
        await send(start())
        for _ in range(3):
            await send(chunk(b"data: 1\n\n"))
        await send(last())

    wrapped = SSEBatchingMiddleware(SSEBatchingMiddleware(app), media_types=LINES)
    async with Conversation(wrapped) as talk:
        await talk.ended()

    assert len([body for body in talk.bodies if body]) == 3


async def test_a_scope_that_outlives_its_request_may_be_used_again() -> None:
    """An app that keeps a scope as a template for calls of its own makes new requests with it."""
    kept: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kept.append(dict(scope))
        assert not get_token(scope).cancelled
        await send(start())
        await send(last())

    wrapped = SSEBatchingMiddleware(app)
    async with Conversation(wrapped) as talk:
        await talk.ended()
    async with Conversation(wrapped, scope=kept[0]) as talk:
        await talk.ended()

    assert talk.error is None
    assert len(kept) == 2
