"""An event loop that goes on in another thread, and one that is closed with requests in it."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send

from sse_batching import (
    CancellationToken,
    CancelReason,
    SSEBatchingMiddleware,
    StreamReport,
    current_token,
)
from tests.support.apps import chunk, last, start
from tests.support.threads import PATIENCE, in_thread, running

LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(uvloop.new_event_loop, id="uvloop"),
]

MakeLoop = Callable[[], asyncio.AbstractEventLoop]


async def forever() -> Any:
    await asyncio.get_running_loop().create_future()


class Request:
    """One request to an app, in any event loop."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.body = b""
        self.left = asyncio.Event()

    async def __call__(self) -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> Any:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.body += message.get("body", b"")
        if b"stall" in self.body:
            await forever()


# Loops that go on in another thread.


@pytest.mark.parametrize("first", ["stream", "plain"])
@pytest.mark.parametrize("make_loop", LOOPS)
def test_a_loop_may_serve_in_one_thread_and_then_in_another(
    make_loop: MakeLoop, first: str
) -> None:
    """A warm-up request in the main thread does not tie the event loop to that thread.
    Pitfall 73."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        current_token()
        await send(start(b"text/event-stream" if kinds.pop() == "stream" else b"text/plain"))
        await send(chunk(b"a"))
        await asyncio.sleep(0)
        await send(chunk(b"b"))
        await send(last())

    kinds = ["stream", first]
    wrapped, loop = SSEBatchingMiddleware(app), make_loop()
    requests = Request(wrapped), Request(wrapped)

    loop.run_until_complete(requests[0]())
    with running(lambda: loop.run_until_complete(requests[1]())):
        pass
    loop.close()

    assert [request.body for request in requests] == [b"ab", b"ab"]


@pytest.mark.parametrize("make_loop", LOOPS)
def test_a_thread_asks_for_a_token_of_a_loop_that_has_moved(make_loop: MakeLoop) -> None:
    """A request goes on in another thread, and its token still works from the thread where it
    began."""
    tokens: list[CancellationToken] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await asyncio.sleep(0)
        loop.stop()
        await asyncio.sleep(0)
        await asyncio.to_thread(lambda: tokens.append(current_token()))
        request.left.set()
        await tokens[0].wait_async()

    loop = make_loop()
    request = Request(SSEBatchingMiddleware(app))
    task = loop.create_task(request())
    loop.run_forever()

    with running(lambda: loop.run_until_complete(asyncio.wait_for(task, PATIENCE))):
        pass
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()

    assert tokens[0].reason is CancelReason.CLIENT_DISCONNECTED


# Loops that are closed with requests in them.


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what Python would print as "Exception ignored in ..."."""
    ignored: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: ignored.append(repr(it.exc_value)))
    return ignored


def drop(app: ASGIApp, make_loop: MakeLoop) -> list[str]:
    """Close an event loop in the middle of a request. Return what the loop complains of."""
    complaints: list[str] = []
    loop = make_loop()
    loop.set_exception_handler(lambda loop, context: complaints.append(context["message"]))
    task = loop.create_task(Request(app)())
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    loop.close()
    del task, loop
    gc.collect()
    return complaints


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    await forever()


async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start())
    await send(chunk(b"a"))
    await forever()


async def listening(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start())
    await send(chunk(b"a"))
    await receive()


async def waiting_for_the_client(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start())
    await send(chunk(b"stall"))
    await send(chunk(b"a" * 100_000))
    await asyncio.gather(send(chunk(b"a" * 100_000)), receive())


async def sending_more(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start())
    for _ in range(3):
        await send(chunk(b"a" * 10))
        await asyncio.sleep(0.001)
    await forever()


@pytest.mark.parametrize("asks", [False, True], ids=["not-asked", "asked"])
@pytest.mark.parametrize("app", [plain, streaming, listening, sending_more, waiting_for_the_client])
@pytest.mark.parametrize("make_loop", LOOPS)
def test_a_request_that_is_dropped_with_its_loop_prints_nothing_more(
    make_loop: MakeLoop, app: ASGIApp, asks: bool, unraisable: list[str]
) -> None:
    """A worker that is stopped hard closes its loop with requests in it. A garbage collection
    closes them, in another context and without a loop, and prints no more than without us.
    Pitfall 74."""
    gc.collect()

    async def asking(scope: Scope, receive: Receive, send: Send) -> None:
        if asks:
            current_token()
        await app(scope, receive, send)

    bare = drop(app, make_loop)
    assert unraisable == []
    assert drop(SSEBatchingMiddleware(asking, max_delay=1.0), make_loop) == bare
    assert unraisable == []


@pytest.mark.parametrize("make_loop", LOOPS)
def test_a_request_that_is_dropped_at_its_end_prints_nothing(
    make_loop: MakeLoop, unraisable: list[str]
) -> None:
    """The loop may be closed while the middleware writes the rest or awaits `on_close`, too."""

    async def returning(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(chunk(b"stall"))
        await send(chunk(b"rest"))

    async def complete(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(last())

    async def on_close(report: StreamReport) -> None:
        await forever()

    gc.collect()
    for app in (returning, complete):
        drop(SSEBatchingMiddleware(app, max_delay=0.001, on_close=on_close), make_loop)
        assert unraisable == []


@pytest.mark.parametrize("registers", [False, True])
@pytest.mark.parametrize("make_loop", LOOPS)
def test_a_thread_is_told_when_its_request_is_dropped_with_its_loop(
    make_loop: MakeLoop, registers: bool, unraisable: list[str]
) -> None:
    """The token of such a request is cancelled, so that an agent in a thread does not go on.
    Pitfall 74."""
    told: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        if registers:
            token.register(told.append, "called")
        agent.append(in_thread(lambda: (token.wait(PATIENCE), token.reason)))
        await streaming(scope, receive, send)

    agent: list[Any] = []
    drop(SSEBatchingMiddleware(app), make_loop)

    assert agent[0].result(PATIENCE) == (True, CancelReason.SERVER_SHUTDOWN)
    assert told == (["called"] if registers else [])
    assert unraisable == []
