"""`StreamingTransport`: it connects the clients of httpx and httpx2 to an app in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import sse_batching.testing.httpx
import sse_batching.testing.httpx2
from sse_batching import CancelReason, SSEBatchingMiddleware, current_token
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import chunk, emitting, last, sending, start

pytestmark = [
    pytest.mark.anyio,
    loops(VIRTUAL_TIME),
    pytest.mark.parametrize(
        "library",
        [
            pytest.param((httpx, sse_batching.testing.httpx), id="httpx"),
            pytest.param((httpx2, sse_batching.testing.httpx2), id="httpx2"),
        ],
    ),
]

Library = Any
"""httpx or httpx2, with our module for it. The two use the same names, but share no type."""


def client_of(library: Library, app: ASGIApp, **options: Any) -> Any:
    http, testing = library
    transport = testing.StreamingTransport(app, **options)
    return http.AsyncClient(transport=transport, base_url="http://app.test")


def transport_of(client: Any) -> Any:
    return client._transport


async def test_each_chunk_comes_when_it_was_sent(library: Library) -> None:
    """The client need not wait for the end, as it does with httpx's `ASGITransport`. Pitfall 71."""
    app = emitting(b"a", 1.0, b"b", 2.0, b"c")
    async with client_of(library, app) as client:
        began = anyio.current_time()
        async with client.stream("GET", "/") as response:
            came = [(anyio.current_time() - began, part) async for part in response.aiter_raw()]

    assert came == [(0, b"a"), (1, b"b"), (3, b"c")]


async def test_an_endless_stream_can_be_read_from(library: Library) -> None:
    """When the client closes the response, the app learns that the client has left. Pitfall 71."""
    reasons: list[CancelReason | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        token.register(lambda: reasons.append(token.reason))
        await send(start())
        while not token.cancelled:
            await send(chunk(b"word "))
            await anyio.sleep(0.5)

    read: list[bytes] = []
    async with client_of(library, SSEBatchingMiddleware(app)) as client:
        async with client.stream("GET", "/") as response:
            with anyio.move_on_after(0.75):
                async for part in response.aiter_raw():
                    read.append(part)  # noqa: PERF401 (it is cancelled)
        await transport_of(client).conversations[0].ended()

    assert read == [b"word ", b"word "]
    assert reasons == [CancelReason.CLIENT_DISCONNECTED]


async def test_a_client_that_does_not_read_stalls_the_app(library: Library) -> None:
    """The message that crosses `unread_limit` is still taken, and then `send` waits."""
    app = sending(start(), *[chunk(b"12345")] * 9, last())
    async with (
        client_of(library, app, unread_limit=10) as client,
        client.stream("GET", "/") as response,
    ):
        await anyio.sleep(5)
        (talk,) = transport_of(client).conversations
        assert talk.body == b"12345" * 3

        assert await response.aread() == b"12345" * 9


async def test_a_request_arrives_as_it_was_sent(library: Library) -> None:
    """The app gets method, path, query and headers, and the body while it is being made."""

    async def echo(request: Request) -> JSONResponse:
        parts = [part.decode() async for part in request.stream() if part]
        url, header = str(request.url), request.headers["x-Name"]
        return JSONResponse([request.method, url, header, request.path_params["name"], parts])

    async def upload() -> AsyncIterator[bytes]:
        yield b"one"
        await anyio.sleep(1)
        yield b"two"

    app = Starlette(routes=[Route("/a/{name}", echo, methods=["PUT"])])
    async with client_of(library, app) as client:
        response = await client.put("/a/b%20c?q=1&r=%26", content=upload(), headers={"X-name": "v"})

    assert response.json() == [
        "PUT",
        "http://app.test/a/b c?q=1&r=%26",
        "v",
        "b c",
        ["one", "two"],
    ]


async def test_a_client_leaves_after_a_message(library: Library) -> None:
    """`after` acts on each request as it does on a `Conversation`."""
    http, _ = library
    app = sending(start(), chunk(b"a"), chunk(b"b"), last())
    async with client_of(library, app, after={2: Conversation.leave}) as client:
        for _ in range(2):
            read: list[bytes] = []
            with pytest.raises(http.ReadError, match="the client has left"):  # noqa: PT012
                async with client.stream("GET", "/") as response:
                    async for part in response.aiter_raw():
                        read.append(part)  # noqa: PERF401 (it ends with an exception)
            assert read == [b"a"]


async def test_what_the_app_raises_comes_out(library: Library) -> None:
    """The client raises the app's error, before the response and in the middle of it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/later":
            await send(start())
            await send(chunk(b"a"))
        raise ZeroDivisionError

    async with client_of(library, app) as client:
        for path in ("/", "/later"):
            with pytest.raises(ZeroDivisionError):
                await client.get(path)


async def test_a_failing_app_may_look_as_on_a_server(library: Library) -> None:
    """`raise_app_exceptions=False` shows a status 500, or a response that breaks off."""
    http, _ = library

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/later":
            await send(start())
            await send(chunk(b"a"))
        raise ZeroDivisionError

    async with client_of(library, app, raise_app_exceptions=False) as client:
        assert (await client.get("/")).status_code == 500
        with pytest.raises(http.RemoteProtocolError, match="without sending complete message body"):
            await client.get("/later")


async def test_an_app_that_does_not_answer_is_an_error(library: Library) -> None:
    """An app that returns without a response, or with half of one, breaks the protocol."""
    http, _ = library
    for app in (sending(), sending(start(), chunk(b"a"))):
        async with client_of(library, app) as client:
            with pytest.raises(http.RemoteProtocolError):
                await client.get("/")


async def test_a_response_is_over_before_its_background_task(library: Library) -> None:
    """The client gets the response at once, and waits for the task at the end of its block."""
    events: list[str] = []

    async def task() -> None:
        await anyio.sleep(5)
        events.append("task")

    async def handler(request: Request) -> JSONResponse:
        return JSONResponse({}, background=BackgroundTask(task))

    app = Starlette(routes=[Route("/", handler)])
    async with client_of(library, app) as client:
        await client.get("/")
        events.append("response")

    assert events == ["response", "task"]


async def test_a_request_that_is_cancelled_is_a_client_that_leaves(library: Library) -> None:
    """That holds before the response has started, too."""
    left = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    async with client_of(library, app) as client:
        with anyio.move_on_after(1):
            await client.get("/")
        with anyio.fail_after(1):
            await left.wait()


async def test_early_hints_and_heads_are_understood(library: Library) -> None:
    """Messages before the start are skipped, and the response to a HEAD has no body."""
    hint = {"type": "http.response.early_hint", "links": []}
    async with client_of(library, sending(hint, start(), last(b"a"))) as client:
        assert (await client.get("/")).content == b"a"
        assert (await client.head("/")).content == b""


async def test_a_client_has_to_be_entered(library: Library) -> None:
    """The apps run in the client's `async with` block. Without it the error says so."""
    client = client_of(library, emitting(b"a"))
    with pytest.raises(RuntimeError, match=r"async with AsyncClient"):
        await client.get("/")


async def test_an_app_that_does_not_end_is_an_error(library: Library) -> None:
    """The test fails and does not hang, and the app does not outlive it."""
    ended: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(start())
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    client = client_of(library, app)
    with pytest.raises(TimeoutError):
        async with client, client.stream("GET", "/"):
            pass
    assert ended


async def test_what_a_test_raises_comes_out_alone(library: Library) -> None:
    """An assertion that fails is in no exception group."""
    with pytest.raises(ZeroDivisionError):
        async with (
            client_of(library, emitting(b"a", 1000.0)) as client,
            client.stream("GET", "/"),
        ):
            raise ZeroDivisionError


async def test_leaving_the_block_ends_what_still_streams(library: Library) -> None:
    """No app outlives the block of its client."""

    async def generate() -> AsyncIterator[bytes]:
        while True:
            yield b"a"
            await anyio.sleep(1)

    async def handler(request: Request) -> StreamingResponse:
        return StreamingResponse(generate(), media_type="text/event-stream")

    app = SSEBatchingMiddleware(Starlette(routes=[Route("/", handler)]))
    async with client_of(library, app) as client:
        request = client.build_request("GET", "/")
        response = await client.send(request, stream=True)
        assert response.status_code == 200

    (talk,) = transport_of(client).conversations
    assert talk.left_early
    assert talk.error is None
