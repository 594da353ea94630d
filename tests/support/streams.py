"""Streams in the thread of a server, and what the thread of the test learns of them."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, Final, TypeVar

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from sse_batching import (
    CancellationToken,
    CancelReason,
    SSEBatchingMiddleware,
    StreamReport,
    current_token,
)
from sse_batching._types import ASGIApp, Message, Receive, Scope, Send
from tests.support.servers import PATIENCE

EVENT_STREAM: Final = "text/event-stream"

Agent = Callable[[], AsyncIterator[bytes]]
App = TypeVar("App", bound=Starlette)


def event(number: int) -> bytes:
    return b"data: %d\n\n" % number


async def ticking() -> AsyncIterator[bytes]:
    """An agent that never ends."""
    for number in itertools.count():
        yield event(number)
        await anyio.sleep(0.005)


async def waiting() -> AsyncIterator[bytes]:
    """An agent that says something, and then waits without end."""
    yield event(0)
    await anyio.sleep_forever()


async def never_awaiting() -> AsyncIterator[bytes]:
    """An agent that never yields to the event loop by itself."""
    while True:
        yield event(0)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Turn garbage collection off. A generator that only a collection would close stays open."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


class Watched:
    """What became of streams, for the thread of the test. Each wait has a time limit."""

    def __init__(self) -> None:
        self.cancellations: list[tuple[CancelReason | None, str | None]] = []
        self._reports: SimpleQueue[StreamReport] = SimpleQueue()
        self._closed = threading.Event()
        self._cancelled = threading.Event()

    def report(self) -> StreamReport:
        """Wait for the next stream to end, and return its report."""
        return self._reports.get(timeout=PATIENCE)

    def closed(self) -> bool:
        """Wait until the `finally` of `watch_agent` has run. Return False if it does not run."""
        return self._closed.wait(PATIENCE)

    def cancelled(self) -> bool:
        """Wait until a token of `watch_token` is cancelled. Return False if none is."""
        return self._cancelled.wait(PATIENCE)

    def watch_token(self, token: CancellationToken) -> None:
        def note() -> None:
            self.cancellations.append((token.reason, token.message))
            self._cancelled.set()

        token.register(note)

    async def watch_agent(self, agent: Agent) -> AsyncIterator[bytes]:
        # The framework has this generator, and has to close it.
        try:
            async for part in agent():
                yield part
        finally:
            self._closed.set()

    def serve(self, handler: Callable[[Request], Any], **options: Any) -> Starlette:
        """Return an app with this handler at /, and the middleware in front."""
        app = Starlette(routes=[Route("/", handler, methods=["GET", "POST"])])
        return self.batch(app, **options)

    def batch(self, app: App, **options: Any) -> App:
        """Put the middleware in front of an app, and return the app."""
        app.add_middleware(SSEBatchingMiddleware, on_close=self._reports.put, **options)
        return app

    def stream(self, agent: Agent, *, ask: bool = False, **options: Any) -> Starlette:
        """Return an app that streams what the agent says.

        With `ask` it asks for its token, too, and ignores it.
        """

        async def handler(request: Request) -> Response:
            if ask:
                self.watch_token(current_token())
            return StreamingResponse(self.watch_agent(agent), media_type=EVENT_STREAM)

        return self.serve(handler, **options)


class StallDetector:
    """ASGI middleware that detects when a write waits for the client."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._stalled = threading.Event()

    def stalled(self) -> bool:
        """Wait until a write waits for the client. Return False if none does."""
        return self._stalled.wait(PATIENCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched_send(message: Message) -> None:
            # On the loopback interface only a full buffer makes a write take this long.
            alarm = asyncio.get_running_loop().call_later(0.05, self._stalled.set)
            try:
                await send(message)
            finally:
                alarm.cancel()

        await self._app(scope, receive, watched_send)
