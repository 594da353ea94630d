"""Batching by a middleware that promises nothing: the least that it can cost, on this machine.

A list, and one timer for all streams, which writes. Nothing is bounded, no failure reaches anybody,
nothing is cleaned up, nobody can ask for anything, and it would break on most servers but uvicorn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .by_hand import MAX_BATCH_BYTES, MAX_DELAY


class Simplest:
    """The middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.timers = Timers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            send = Gathered(send, self.timers).send
        await self.app(scope, receive, send)


class Timers:
    """One timer of the event loop for all streams."""

    def __init__(self) -> None:
        self._waiting: dict[Gathered, float] = {}
        self._rings_at = 0.0

    def add(self, stream: Gathered, deadline: float) -> None:
        if not self._waiting:
            self._arm(deadline)
        self._waiting[stream] = deadline

    def _arm(self, deadline: float) -> None:
        self._rings_at = deadline
        asyncio.get_running_loop().call_at(deadline, self._ring)

    def _ring(self) -> None:
        now = max(asyncio.get_running_loop().time(), self._rings_at)  # it rings a moment early
        due = [stream for stream, deadline in self._waiting.items() if deadline <= now]
        for stream in due:
            del self._waiting[stream]
        if self._waiting:
            self._arm(next(iter(self._waiting.values())))
        for stream in due:
            stream.write()


class Gathered:
    """One response."""

    __slots__ = ("_chunks", "_send", "_size", "_streaming", "_time", "_timers")

    def __init__(self, send: Send, timers: Timers) -> None:
        self._send = send
        self._timers = timers
        self._time = asyncio.get_running_loop().time
        self._streaming = False
        self._chunks: list[bytes] = []
        self._size = 0

    async def send(self, message: Message) -> None:
        if self._streaming and message["more_body"]:
            body = message["body"]
            if not self._chunks:
                self._timers.add(self, self._time() + MAX_DELAY)
            self._chunks.append(body)
            self._size += len(body)
            if self._size >= MAX_BATCH_BYTES:
                await self._send(self._batch())
                await asyncio.sleep(0)
            return
        self._streaming = is_event_stream(message)
        if self._chunks:
            await self._send(self._batch())
        await self._send(message)

    def _batch(self) -> Message:
        body = b"".join(self._chunks)
        self._chunks = []
        self._size = 0
        return {"type": "http.response.body", "body": body, "more_body": True}

    def write(self) -> None:
        """The timer has rung."""
        if not self._chunks:
            return
        batch = self._batch()
        writing = cast("Coroutine[Any, Any, None]", self._send(batch))
        try:
            writing.send(None)
        except StopIteration:
            return
        writing.close()  # uvicorn waits before it writes: nothing is out
        self._chunks = [batch["body"]]
        self._timers.add(self, self._time() + MAX_DELAY)


def is_event_stream(message: Message) -> bool:
    return any(
        name == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in message.get("headers", ())
    )
