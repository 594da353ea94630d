"""Apps of unusual construction work with the middleware as they do without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import anyio
import pytest
from asgiref.wsgi import WsgiToAsgi
from starlette.background import BackgroundTask
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware
from sse_batching.testing import Conversation
from tests.conftest import DEBUG, EVERY_LOOP, loops
from tests.support.apps import chunk, converse, start

pytestmark = pytest.mark.anyio


@loops(EVERY_LOOP)
async def test_background_task_runs_after_a_client_left_during_a_write() -> None:
    """The background task runs, however late the generator, a plain one in a thread, is closed."""
    ran, stalled = anyio.Event(), anyio.Event()

    def endless() -> Iterator[bytes]:
        while True:
            yield b"data: more\n\n"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def bill() -> None:
            ran.set()

        await StreamingResponse(
            endless(), media_type="text/event-stream", background=BackgroundTask(bill)
        )(scope, receive, send)

    async def stall(number: int, message: Message) -> None:
        if message["type"] == "http.response.body":
            talk.stall()
            stalled.set()

    batched = SSEBatchingMiddleware(app, max_batch_bytes=1)
    async with Conversation(batched, on_send=stall) as talk:
        await stalled.wait()
        talk.leave()
        await talk.ended()
    assert ran.is_set()


@loops(EVERY_LOOP)
async def test_send_of_a_task_that_outlives_the_app_goes_to_the_server() -> None:
    """The chunk is not buffered, because nobody would flush the buffer."""
    returned = anyio.Event()
    sends: list[Send] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        sends.append(send)
        await send(start())
        await send(chunk(b"data: 1\n\n"))

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await SSEBatchingMiddleware(app)(scope, receive, send)
        returned.set()
        await sends[0](chunk(b"data: late\n\n"))

    talk = await converse(serve)
    assert returned.is_set()
    assert talk.body == b"data: 1\n\ndata: late\n\n"


@loops([DEBUG], because="the adapter is for asyncio only")
async def test_wsgi_app_of_asgiref_streams() -> None:
    """asgiref's adapter calls `send` in a thread, and awaits the result in the event loop."""

    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return (b"data: %d\n\n" % number for number in range(3))

    talk = await converse(SSEBatchingMiddleware(WsgiToAsgi(app)))  # type: ignore[no-untyped-call]
    assert talk.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert talk.completed
