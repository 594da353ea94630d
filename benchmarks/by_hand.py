"""Batching as people write it into an app: a timer task and a lock, without the usual mistakes."""

from __future__ import annotations

import asyncio
from typing import Final

import anyio
from starlette.responses import StreamingResponse
from starlette.types import Send

MAX_DELAY: Final = 0.05
MAX_BATCH_BYTES: Final = 65_536


class BatchedByHand(StreamingResponse):
    """StreamingResponse that writes every 50 ms.

    Its buffer is bounded. A write that fails in the timer task ends the response. The end of the
    response does not interrupt a write.
    """

    async def stream_response(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        self._send = send
        self._lock = asyncio.Lock()
        self._buffer: list[bytes] = []
        self._size = 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._flush_regularly)
            async for chunk in self.body_iterator:
                await self._add(chunk.encode() if isinstance(chunk, str) else bytes(chunk))
            async with self._lock:  # do not interrupt a write
                tasks.cancel_scope.cancel()
        await self._flush(more_body=False)

    async def _add(self, chunk: bytes) -> None:
        async with self._lock:
            self._buffer.append(chunk)
            self._size += len(chunk)
        if self._size >= MAX_BATCH_BYTES:
            await self._flush()

    async def _flush_regularly(self) -> None:
        while True:
            await asyncio.sleep(MAX_DELAY)
            if self._buffer:
                await self._flush()

    async def _flush(self, *, more_body: bool = True) -> None:
        async with self._lock:
            body = b"".join(self._buffer)
            self._buffer.clear()
            self._size = 0
            await self._send({"type": "http.response.body", "body": body, "more_body": more_body})
