"""`RequestContext`: what every request costs, and the parts that it makes only on demand."""

from __future__ import annotations

import copy
import json
from collections.abc import Awaitable
from typing import Any

import anyio
import asgiref.sync
import pytest

from sse_batching import CancelReason
from sse_batching._cause import CLIENT_LEFT
from sse_batching._loop import current_loop
from sse_batching._request import CLOSING, ENDED, RequestContext
from sse_batching._states import State
from sse_batching._types import Message
from tests.conftest import EVERY_LOOP, VIRTUAL_TIME, loops
from tests.support.apps import chunk, last, start
from tests.support.threads import PATIENCE, eager_switching, running, together
from tests.unit.defaults import default_options

pytestmark = [pytest.mark.anyio, loops([*VIRTUAL_TIME, *EVERY_LOOP])]

on_real_time = loops(EVERY_LOOP)

PLAIN = start(b"text/html")


class Server:
    """A server that records what it is sent. It has no message for the app."""

    def __init__(self, method: str = "GET") -> None:
        self.sent: list[Message] = []
        self.request = RequestContext(
            {"type": "http", "method": method},
            self.receive,
            self.send,
            default_options(),
            current_loop(),
        )

    async def receive(self) -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def finish(self, *messages: Message) -> None:
        """Let the app send these messages, and finish the request as the middleware does."""
        for message in messages:
            await self.request.send(message)
        if self.request.exchange is not None:
            await self.request.finish(None)
        self.request.stage = ENDED


# Requests that do not stream.


@pytest.mark.parametrize(
    ("method", "messages"),
    [
        pytest.param("GET", [PLAIN, chunk(b"a"), last(b"b")], id="plain"),
        pytest.param("GET", [PLAIN, {"type": "http.response.body"}], id="empty"),
        pytest.param("HEAD", [start(), last()], id="response-to-head"),
        pytest.param("GET", [start(status=204), last()], id="without-a-body"),
        pytest.param(
            "GET",
            [{"type": "http.response.debug", "info": {}}, PLAIN, last(b"b")],
            id="another-message-first",
        ),
    ],
)
async def test_a_request_that_does_not_stream_makes_no_exchange(
    method: str, messages: list[Message]
) -> None:
    """Its messages go to the server as they are, and nothing else is made."""
    server = Server(method)

    for message in messages:
        await server.request.send(message)

    assert len(server.sent) == len(messages)
    assert all(sent is message for sent, message in zip(server.sent, messages, strict=True))
    assert server.request.exchange is None


async def test_send_returns_what_the_server_returns() -> None:
    """A message of a plain response costs no coroutine of this package."""

    async def delivery() -> None:
        raise AssertionError

    deliveries: list[Any] = []

    def send(message: Message) -> Any:
        deliveries.append(delivery())
        return deliveries[-1]

    request = RequestContext(
        {"type": "http"}, Server().receive, send, default_options(), current_loop()
    )

    for message in (PLAIN, chunk(b"a"), last()):
        returned = request.send(message)
        deliveries[-1].close()
        assert returned is deliveries[-1]


async def test_send_looks_like_a_coroutine_function() -> None:
    """Frameworks and asgiref ask before they await a call, although `send` is a plain function."""
    assert asgiref.sync.iscoroutinefunction(Server().request.send)


async def test_headers_that_can_be_read_once_reach_the_server() -> None:
    """The look at the content type does not use up an iterator of headers."""
    server = Server()

    await server.request.send({**PLAIN, "headers": iter(PLAIN["headers"])})

    assert server.sent == [PLAIN]


# Requests that need an exchange.


async def test_a_stream_makes_an_exchange() -> None:
    """The start of a batched response is what makes the exchange."""
    server = Server()

    await server.request.send(start())

    assert server.request.exchange is not None
    assert server.request.exchange.state is State.STREAMING
    await server.finish(last())


@pytest.mark.parametrize(
    ("messages", "state"),
    [
        ([], State.AWAITING),
        ([PLAIN], State.PASSING),
        ([PLAIN, chunk(b"a")], State.PASSING),
        ([PLAIN, chunk(b"a"), last()], State.COMPLETED),
        ([PLAIN, {"type": "http.response.pathsend", "path": "/x"}], State.COMPLETED),
        ([PLAIN, {"type": "http.response.zerocopysend", "more_body": True}], State.PASSING),
    ],
    ids=lambda value: value.name if isinstance(value, State) else f"{len(value)}-messages",
)
async def test_an_exchange_that_is_made_late_has_the_state_of_the_request(
    messages: list[Message], state: State
) -> None:
    """The token of a plain response can be asked for at any time."""
    server = Server()
    for message in messages:
        await server.request.send(message)

    assert not server.request.token(grace=True).cancelled

    assert server.request.exchange is not None
    assert server.request.exchange.state is state
    await server.finish()


async def test_a_token_of_a_request_that_has_ended_early_is_cancelled() -> None:
    """A caller that asks too late still learns that the client has left."""
    server = Server()
    server.request.make_exchange().close(CLIENT_LEFT)

    assert server.request.token(grace=True).reason is CancelReason.CLIENT_DISCONNECTED
    await server.finish()


@pytest.mark.parametrize("early", [False, True])
async def test_the_token_of_a_request_that_has_ended_is_not_found(early: bool) -> None:
    """A worker that keeps the context of a request finds no token of that request later. A token
    that somebody holds stays as it is."""
    server = Server()
    before = server.request.token(grace=True)
    if early:
        server.request.make_exchange().close(CLIENT_LEFT)
    await server.finish()

    with pytest.raises(LookupError, match="has ended"):
        server.request.token(grace=False)
    assert before.cancelled is early


@pytest.mark.parametrize("early", [False, True])
async def test_a_token_that_is_asked_for_while_the_request_closes_starts_nothing(
    early: bool,
) -> None:
    """Code that runs between the app's end and the middleware's gets a token, which is cancelled if
    the request ended early."""
    server = Server()
    if early:
        server.request.make_exchange().close(CLIENT_LEFT)
    server.request.stage = CLOSING
    before = server.request.exchange

    token = server.request.token(grace=True)

    assert token.cancelled is early
    assert server.request.exchange is before
    await server.finish()


async def test_a_copied_scope_keeps_the_request() -> None:
    """A middleware inside may copy the scope, also deeply, and the request is still found in it.
    Pitfall 72."""
    server = Server()
    request = server.request
    request.token(grace=True)
    scope: dict[str, object] = {"type": "http", "key": request}

    for copied in (copy.copy(scope), copy.deepcopy(scope), dict(scope)):
        assert copied["key"] is request
    assert "RequestContext" in json.dumps(scope, default=repr)
    await server.finish()


# Threads.


@on_real_time
async def test_a_thread_that_asks_for_the_token_makes_nothing_itself() -> None:
    """The exchange belongs to the event loop, and is made there."""
    server = Server()

    with running(lambda: server.request.token(grace=True)) as tokens:
        pass
    assert server.request.exchange is None
    await anyio.wait_all_tasks_blocked()

    assert tokens[0].result() is server.request.token(grace=True)
    exchange = server.request.exchange
    assert exchange is not None
    exchange.close(CLIENT_LEFT)
    assert server.request.token(grace=True).cancelled
    await server.finish()


@on_real_time
async def test_all_threads_get_one_token_and_one_id() -> None:
    """Threads that ask for the first time at the same moment do not get one each."""
    for _ in range(20):
        server = Server()

        def ask(server: Server = server) -> object:
            return server.request.token(grace=True), server.request.id

        with eager_switching(), running(lambda: together([ask] * 8)) as results:
            pass

        assert results[0].result() == [ask()] * 8
        await server.finish()


@on_real_time
@pytest.mark.parametrize("asks", ["just-before", "after"])
async def test_a_thread_that_outlives_the_request_makes_no_exchange(asks: str) -> None:
    """A thread that asks just before the end gets a token that nobody cancels, later none."""
    server = Server()
    if asks == "after":
        await server.finish(PLAIN, last())

    def ask() -> bool | None:
        try:
            return server.request.token(grace=True).cancelled
        except LookupError:
            return None

    with running(ask) as cancelled:
        pass
    if asks == "just-before":
        await server.finish()
    await anyio.wait_all_tasks_blocked()

    assert server.request.exchange is None
    assert cancelled[0].result() is (None if asks == "after" else False)


@on_real_time
async def test_a_response_that_a_thread_starts_begins_in_the_event_loop() -> None:
    """asgiref's `async_to_sync` calls `send` in a thread, and awaits the result in the loop."""
    server = Server()

    deliveries: list[Awaitable[None]] = []

    with running(lambda: deliveries.append(server.request.send(start()))):
        pass
    assert server.request.exchange is None
    with anyio.fail_after(PATIENCE):
        await deliveries[0]

    assert server.sent == [start()]
    await server.finish(last())
