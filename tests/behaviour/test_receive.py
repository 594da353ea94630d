"""The app gets every message of its request body, in order, and one task reads them (F3)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware, current_token
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import chunk, converse, last, start
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

READ_AHEAD = 65_536
PART = 65_536
UPLOAD = [bytes([number % 256]) * PART for number in range(160)]  # 10 MB


class OneReader:
    """A server that counts the tasks in its `receive`. If two tasks wait there, real servers split
    the body between them, repeat the body, or invent a disconnect."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._inside = 0
        self.most = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted() -> Message:
            self._inside += 1
            self.most = max(self.most, self._inside)
            try:
                return await receive()
            finally:
                self._inside -= 1

        await self._app(scope, counted, send)


async def body_of(receive: Receive, pause: float = 0) -> list[bytes]:
    """Return the parts of the request body."""
    parts = []
    more = True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        parts.append(message["body"])
        more = message["more_body"]
        await advance(pause)
    return parts


PARTS = [b"%d" % number for number in range(300)]


@pytest.mark.parametrize("asks", [False, True], ids=["", "token"])
@pytest.mark.parametrize("pause", [0, 0.01])
@pytest.mark.parametrize("when", ["before", "streaming", "end"])
async def test_the_body_arrives_in_order_whenever_it_is_read(
    when: str, pause: float, asks: bool
) -> None:
    """The app may read before, during or after its chunks, at once or slowly, and gets every part
    once. Pitfall 1."""
    read: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if asks:
            current_token()
        if when == "before":
            read.extend(await body_of(receive, pause))
        await send(start())
        await send(chunk(b"a"))
        await advance(1)
        if when == "streaming":
            read.extend(await body_of(receive, pause))
        await send(chunk(b"b"))
        if when == "end":
            read.extend(await body_of(receive, pause))
        await send(last())

    server = OneReader(SSEBatchingMiddleware(app))
    talk = await converse(server, method="POST", body=PARTS)
    assert read == PARTS
    assert talk.body == b"ab"
    assert server.most <= 1


async def test_a_large_upload_is_read_no_faster_than_the_app_reads_it() -> None:
    """An upload of 10 MB that is read slowly arrives complete, and little of it is held in
    memory."""
    digest = hashlib.sha256()
    handed = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal handed
        await send(start())
        more = True
        while more:
            await advance(0.01)
            message = await receive()
            digest.update(message["body"])
            handed += 1
            more = message["more_body"]
            assert talk.taken - handed <= READ_AHEAD // PART
            await send(chunk(b"data: %d\n\n" % handed))
        await send(last())

    async with Conversation(SSEBatchingMiddleware(app), method="POST", body=UPLOAD) as talk:
        await talk.ended()
    assert talk.error is None
    assert digest.digest() == hashlib.sha256(b"".join(UPLOAD)).digest()


@pytest.mark.parametrize("size", [1, 1000, PART], ids=["tiny", "small", "large"])
async def test_an_upload_that_nobody_reads_stays_with_the_server(size: int) -> None:
    """The client has to wait with its upload, while the response goes on."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        current_token()
        await send(start())
        for _ in range(10):
            await send(chunk(b"data: 1\n\n"))
            await advance(0.1)
        await send(last())

    upload = [b"x" * size] * 2000
    talk = await converse(SSEBatchingMiddleware(app), method="POST", body=upload)
    assert talk.taken * size <= READ_AHEAD + size
    assert talk.taken <= 200
    assert talk.completed


async def test_nothing_is_read_for_an_app_that_neither_reads_nor_streams_nor_has_a_token() -> None:
    """Without a need to notice a disconnect, the upload is left to the server."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await advance(5)
        await send(start(b"text/plain"))
        await send(last())

    talk = await converse(SSEBatchingMiddleware(app), method="POST", body=UPLOAD)
    assert talk.taken == 0


async def test_a_wait_that_is_cancelled_loses_nothing() -> None:
    """An app that waits for each part with a timeout gets all parts."""
    parts: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        while len(parts) < 20:
            with anyio.move_on_after(0.03):
                parts.append((await receive())["body"])
        await send(last())

    async def slow_client(scope: Scope, receive: Receive, send: Send) -> None:
        async def one_by_one() -> Message:
            await advance(0.1)
            return await receive()

        await SSEBatchingMiddleware(app)(scope, one_by_one, send)

    expected = [b"%d" % number for number in range(20)]
    await converse(slow_client, method="POST", body=expected)
    assert parts == expected


async def test_several_tasks_share_the_messages_and_all_get_the_end() -> None:
    """Each message goes to one task. The disconnect goes to every task, whether the task began to
    read before or after the response started."""
    parts: list[bytes] = []
    told = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def read() -> None:
            nonlocal told
            while (message := await receive())["type"] == "http.request":
                if message["body"]:
                    parts.append(message["body"])
                await advance(0.01)
            told += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            tasks.start_soon(read)
            await advance(0.05)
            await send(start())
            await send(chunk(b"a"))
            tasks.start_soon(read)

    server = OneReader(SSEBatchingMiddleware(app))
    async with Conversation(server, method="POST", body=PARTS, repeat_disconnect=False) as talk:
        await advance(5)
        talk.leave()
        await talk.ended()
    assert parts == PARTS
    assert told == 3
    assert server.most == 1


@pytest.mark.parametrize("method", ["body", "stream", "json"])
async def test_starlette_still_reads_its_request(method: str) -> None:
    """`body()`, `stream()` and `json()` return the upload, and the response streams afterwards."""
    upload = [b"[", *(b"%d," % number for number in range(5000)), b"0]"]

    async def echo(request: Request) -> Response:
        if method == "body":
            content = await request.body()
        elif method == "stream":
            content = b"".join([part async for part in request.stream()])
        else:
            content = json.dumps(await request.json(), separators=(",", ":")).encode()

        async def generate() -> AsyncIterator[bytes]:
            for position in range(0, len(content), 1000):
                yield content[position : position + 1000]
                await advance(0.001)

        return StreamingResponse(generate(), media_type="text/event-stream")

    app = SSEBatchingMiddleware(Starlette(routes=[Route("/", echo, methods=["POST"])]))
    assert (await converse(app, method="POST", body=upload)).body == b"".join(upload)


async def test_starlette_still_polls_for_the_disconnect() -> None:
    """In a handler, `request.is_disconnected()` returns at once, and returns True once the client
    has left. The middleware changes nothing. Pitfall 2."""

    async def wait(request: Request) -> Response:
        answers.append(await request.is_disconnected())
        await advance(1)
        answers.append(await request.is_disconnected())
        talk.leave()
        await advance(1)
        answers.append(await request.is_disconnected())
        return PlainTextResponse("too late")

    plain = Starlette(routes=[Route("/", wait)])
    for app in (plain, SSEBatchingMiddleware(plain)):
        answers: list[bool] = []
        async with Conversation(app) as talk:
            await talk.ended()
        assert (app, answers) == (app, [False, False, True])


async def test_a_raw_app_polls_while_it_streams() -> None:
    """An app that polls `receive` between its chunks, without a wait, sees that its client has
    left. Pitfall 2."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await send(start())
        while not await request.is_disconnected():
            seen.append("there")
            await send(chunk(b"data: 1\n\n"))
            await advance(1)
        seen.append("gone")

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await advance(2.5)
        talk.leave()
        await talk.ended()
    assert seen == ["there", "there", "there", "gone"]
    assert talk.error is None
