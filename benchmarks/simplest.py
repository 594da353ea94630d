"""The simplest middleware that batches, which is the floor for what batching costs in a middleware.

Each stream has a list, and all streams share one timer, which writes. The middleware promises
nothing: buffers are not bounded, failed writes are not reported, nothing is cleaned up, there is no
token. It breaks on most servers other than uvicorn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .by_hand import MAX_BATCH_BYTES, MAX_DELAY


class Simplest:
    """Middleware that batches."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.queue = TimerQueue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            send = BatchedResponse(send, self.queue).send
        await self.app(scope, receive, send)


class TimerQueue:
    """Streams that wait for one timer of the event loop."""

    def __init__(self) -> None:
        self._waiting: dict[BatchedResponse, float] = {}
        self._due_at = 0.0

    def add(self, stream: BatchedResponse, deadline: float) -> None:
        if not self._waiting:
            self._arm(deadline)
        self._waiting[stream] = deadline

    def _arm(self, deadline: float) -> None:
        self._due_at = deadline
        asyncio.get_running_loop().call_at(deadline, self._run)

    def _run(self) -> None:
        now = max(asyncio.get_running_loop().time(), self._due_at)  # the loop calls a moment early
        due = [stream for stream, deadline in self._waiting.items() if deadline <= now]
        for stream in due:
            del self._waiting[stream]
        if self._waiting:
            self._arm(next(iter(self._waiting.values())))
        for stream in due:
            stream.write()


class BatchedResponse:
    """One response, and its buffer."""

    __slots__ = ("_chunks", "_queue", "_send", "_size", "_streaming", "_time")

    def __init__(self, send: Send, queue: TimerQueue) -> None:
        self._send = send
        self._queue = queue
        self._time = asyncio.get_running_loop().time
        self._streaming = False
        self._chunks: list[bytes] = []
        self._size = 0

    async def send(self, message: Message) -> None:
        if self._streaming and message["more_body"]:
            body = message["body"]
            if not self._chunks:
                self._queue.add(self, self._time() + MAX_DELAY)
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
        """Write the batch. The timer calls this."""
        if not self._chunks:
            return
        batch = self._batch()
        writing = cast("Coroutine[Any, Any, None]", self._send(batch))
        try:
            writing.send(None)
        except StopIteration:
            return
        writing.close()  # uvicorn waited before it wrote: nothing was sent
        self._chunks = [batch["body"]]
        self._queue.add(self, self._time() + MAX_DELAY)


def is_event_stream(message: Message) -> bool:
    return any(
        name == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in message.get("headers", ())
    )
