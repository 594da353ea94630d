"""The token of a request is found during the request: not after it, not in its context alone."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypercorn.middleware import ProxyFixMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from sse_batching import (
    CancellationToken,
    CancelReason,
    SSEBatchingMiddleware,
    Stream,
    StreamReport,
    current_stream,
    current_token,
    get_token,
    observe_token,
)
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import chunk, converse, last, start
from tests.support.leftovers import leftovers_settled, living_tasks, pending_timers
from tests.support.threads import running
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

FINDERS: list[Callable[[], object]] = [current_token, current_stream, observe_token]


@pytest.mark.parametrize("leaves", [False, True], ids=["completed", "left"])
@pytest.mark.parametrize("asked", [False, True], ids=["not-asked", "asked"])
@pytest.mark.parametrize("find", FINDERS)
async def test_a_worker_that_outlives_its_request_finds_no_token_there(
    find: Callable[[], object], asked: bool, leaves: bool
) -> None:
    """A worker keeps the context of the request that started it, in which later work would get a
    token that nobody cancels, or one that is cancelled already. Pitfall 76."""
    contexts = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if asked:
            current_token()
        contexts.append(copy_context())
        await send(start())
        if leaves:
            await receive()
            await receive()
        await send(last())

    async with Conversation(SSEBatchingMiddleware(app, grace_period=0)) as talk:
        await talk.until(lambda: talk.sent)
        if leaves:
            talk.leave()
        await talk.ended()
    with pytest.raises(LookupError, match=r"has ended\. Code that outlives a request"):
        contexts[0].run(find)


async def test_a_worker_finds_the_token_of_the_request_that_it_is_handed() -> None:
    """`get_token` in a worker with the context of an earlier request gets the later request's.
    Pitfall 76."""
    send_work, work = anyio.create_memory_object_stream[Scope](1)
    found: list[CancellationToken] = []

    async def worker() -> None:
        async with work:
            found.append(get_token(await work.receive()))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/first":
            tasks.start_soon(worker)
            await anyio.lowlevel.checkpoint()
        else:
            await send_work.send(scope)
            await advance(1)
            assert found == [current_token()]
        await send(start())
        await send(last())

    wrapped = SSEBatchingMiddleware(app)
    async with anyio.create_task_group() as tasks:
        await converse(wrapped, path="/first")
        await converse(wrapped, path="/second")
        send_work.close()
    assert len(found) == 1


@pytest.mark.parametrize("copied", [dict, copy.copy, copy.deepcopy])
async def test_a_copied_scope_has_the_token_during_the_request_only(
    copied: Callable[[Scope], Scope],
) -> None:
    """The copy has the token of the request, and none after the end."""
    copies: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        copies.append(copied(scope))
        assert get_token(copies[0]) is current_token()
        await send(start())
        await send(last())

    await converse(SSEBatchingMiddleware(app))

    for find in (get_token, observe_token):
        with pytest.raises(LookupError, match="has ended"):
            find(copies[0])


async def test_a_pickled_scope_has_no_token() -> None:
    """A middleware may pickle the scope, as it may without this middleware. The token stays behind:
    it works in one process only."""
    pickled: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        current_token()
        pickled.append(pickle.dumps({**scope, "app": None, "state": {}}))
        await send(start())
        await send(last())

    await converse(SSEBatchingMiddleware(app))
    with pytest.raises(LookupError, match="has ended"):
        get_token(pickle.loads(pickled[0]))


async def test_what_is_held_stays_usable() -> None:
    """A token that was found before the end keeps its state, and so does a stream."""
    held: list[tuple[Stream, CancellationToken]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        stream = current_stream()
        held.append((stream, stream.token))
        await send(start())
        await send(last())

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await talk.ended()
    stream, token = held[0]
    before = living_tasks()
    assert stream.token is token
    assert len(stream.id) == 32
    await stream.flush()
    stream.configure(max_delay=1.0, enabled=False)
    assert token.cancel()
    await anyio.lowlevel.checkpoint()
    assert living_tasks() == before


# While the request closes.


@pytest.mark.parametrize("how", ["last", "return", "raise", "no-stream"])
@pytest.mark.parametrize("asks", ["sync", "async", "task", "thread"])
async def test_on_close_may_look_at_the_token_and_starts_nothing(
    asks: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """`on_close`, and a task or a thread that runs beside it, get the token and the stream, and no
    task or timer is left to watch a request that is over."""
    caplog.set_level(logging.INFO, "sse_batching")
    found: list[tuple[CancellationToken, str]] = []

    def look() -> None:
        found.append((current_token(), current_stream().id))

    def on_close(report: StreamReport) -> None:
        look()
        assert found[0][1] == report.stream_id

    async def on_close_async(report: StreamReport) -> None:
        if asks == "thread":
            context = copy_context()
            with running(lambda: context.run(look)):
                pass
        elif asks == "task":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(look_later)
        else:
            look()
        await current_stream().flush()
        current_stream().configure(max_delay=2.0)
        await advance(1)

    async def look_later() -> None:
        await advance(1)
        look()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if how == "no-stream":
            current_token().cancel()
            return
        await send(start())
        await send(chunk(b"a"))
        if how == "last":
            await send(last())
        elif how == "raise":
            raise ValueError

    closing = on_close if asks == "sync" else on_close_async
    wrapped = SSEBatchingMiddleware(app, on_close=closing)

    async def never() -> Any:
        reads.append(None)
        await anyio.sleep_forever()

    async def send(message: Any) -> None:
        pass

    reads: list[None] = []
    before, timers = living_tasks(), pending_timers()
    try:
        await wrapped({"type": "http", "path": "/", "headers": []}, never, send)
    except ValueError:
        assert how == "raise"
    await leftovers_settled()
    read_before = len(reads)
    await advance(100)

    assert len(found) == 1
    assert (living_tasks(), pending_timers(), len(reads)) == (before, timers, read_before)
    assert not [record for record in caplog.records if "disconnected" in record.message]


async def test_on_close_finds_the_token_cancelled_if_the_request_ended_early() -> None:
    """A token that `on_close` is the first to ask for tells why the stream was cut."""
    reasons: list[CancelReason | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await receive()
        await receive()

    def on_close(report: StreamReport) -> None:
        reasons.append(current_token().reason)

    async with Conversation(SSEBatchingMiddleware(app, on_close=on_close)) as talk:
        await talk.until(lambda: talk.sent)
        talk.leave()
        await talk.ended()
    assert reasons == [CancelReason.CLIENT_DISCONNECTED]


# Observing.


class Observed:
    """An app that looks on, and records when it saw the disconnect, and when the token did."""

    def __init__(self, *claims: Callable[[Scope], object]) -> None:
        self.times: dict[str, float] = {}
        self._claims = claims

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = anyio.current_time()
        for claim in self._claims:
            claim(scope)
        assert observe_token() is observe_token(scope)
        observe_token().register(
            lambda: self.times.setdefault("token", anyio.current_time() - began)
        )
        await send(start())
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        self.times["app"] = anyio.current_time() - began


@pytest.mark.parametrize(
    ("claims", "seen"),
    [
        pytest.param([], 1.0, id="observes"),
        pytest.param([lambda scope: current_token()], 5.0, id="asks"),
        pytest.param([lambda scope: observe_token(), get_token], 5.0, id="observes-then-asks"),
        pytest.param([get_token, lambda scope: observe_token()], 5.0, id="asks-then-observes"),
        pytest.param([lambda scope: current_stream().token], 5.0, id="stream"),
    ],
)
async def test_an_app_that_only_observes_sees_the_disconnect_at_once(
    claims: list[Callable[[Scope], object]], seen: float
) -> None:
    """Looking on delays nothing, as if the token had not been read. Any other way to get the token
    asks for the grace period."""
    app = Observed(*claims)

    async with Conversation(SSEBatchingMiddleware(app, grace_period=4.0)) as talk:
        await talk.until(lambda: talk.sent)
        await advance(1)
        talk.leave()
        await talk.ended()

    assert {key: round(time, 3) for key, time in app.times.items()} == {"token": 1.0, "app": seen}


# Middlewares that copy the scope.


@pytest.mark.parametrize("mode", ["legacy", "modern"])
@pytest.mark.parametrize(
    "stack",
    [
        lambda app, proxy: SSEBatchingMiddleware(proxy(app), max_delay=1.0),
        lambda app, proxy: proxy(SSEBatchingMiddleware(app, max_delay=1.0)),
    ],
    ids=["inside", "outside"],
)
async def test_a_middleware_that_copies_the_scope_deeply_changes_nothing(
    stack: Callable[[ASGIApp, Callable[[ASGIApp], ASGIApp]], ASGIApp], mode: Any
) -> None:
    """hypercorn's `ProxyFixMiddleware` may stand inside or outside of this middleware.
    Pitfall 72."""
    make_proxy: Any = ProxyFixMiddleware
    reasons: list[CancelReason | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert get_token(scope) is current_token()
        await send(start())
        for body in (b"a", b"b", b"c"):
            await send(chunk(body))
        await current_token().wait_async()
        reasons.append(current_token().reason)

    def proxy(inner: ASGIApp) -> ASGIApp:
        fixed: ASGIApp = make_proxy(inner, mode=mode)
        return fixed

    headers = [(b"x-forwarded-for", b"1.2.3.4"), (b"forwarded", b"for=1.2.3.4;proto=https")]
    async with Conversation(stack(app, proxy), headers=headers) as talk:
        await talk.until(lambda: talk.bodies)
        talk.leave()
        await talk.ended()
    assert talk.bodies == [b"abc"]
    assert reasons == [CancelReason.CLIENT_DISCONNECTED]


# Requests that are not enabled.


@pytest.mark.parametrize("asks", [False, True])
async def test_a_request_that_is_not_enabled_has_a_token(asks: bool) -> None:
    """`enabled` is about batching: the token is cancelled, and the grace period holds, as for any
    response that does not stream."""
    seen: list[tuple[float, CancelReason | None]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = get_token(scope) if asks else observe_token()
        await send(start())
        await receive()
        await receive()
        seen.append((round(anyio.current_time() - began, 3), token.reason))

    wrapped = SSEBatchingMiddleware(app, enabled=lambda scope: False, grace_period=4.0)
    async with Conversation(wrapped) as talk:
        await talk.until(lambda: talk.sent)
        began = anyio.current_time()
        talk.leave()
        await talk.ended()
    assert seen == [(4.0 if asks else 0.0, CancelReason.CLIENT_DISCONNECTED)]
    assert talk.error is None


# Expect: 100-continue.


EXPECTS = [(b"expect", b"100-Continue")]


@pytest.mark.parametrize("first", [lambda: None, lambda: current_stream().configure(enabled=True)])
async def test_asking_for_the_token_does_not_invite_the_body(
    first: Callable[[], object],
) -> None:
    """A client that expects "100 Continue" gets it when the app reads, and not because the token
    watches for a disconnect: the app may answer 401 without the body. Pitfall 75."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        first()
        current_token()
        await advance(1)
        assert talk.taken == 0
        await send({**start(b"text/plain"), "status": 401})
        await advance(1)
        assert talk.taken == 1  # the response has started, so nobody waits for "100 Continue"
        await send(last())

    async with Conversation(SSEBatchingMiddleware(app), headers=EXPECTS) as talk:
        await talk.ended()
    assert talk.error is None


@pytest.mark.parametrize("reads", [False, True], ids=["starts", "reads"])
async def test_a_request_that_expects_continue_notices_a_disconnect(reads: bool) -> None:
    """Once the app has read, or has started its response, the client's leaving cancels the
    token."""
    reasons: list[CancelReason | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        await advance(1)
        if reads:
            await receive()
        else:
            await send(start())
        ready.set()
        await token.wait_async()
        reasons.append(token.reason)

    ready = anyio.Event()
    async with Conversation(SSEBatchingMiddleware(app), headers=EXPECTS) as talk:
        await ready.wait()
        talk.leave()
        await talk.ended()
    assert reasons == [CancelReason.CLIENT_DISCONNECTED]
