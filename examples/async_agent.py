"""An async agent that calls a model's server with httpx. When the reader leaves, the call closes.

    python examples/async_agent.py
    curl -N http://127.0.0.1:8000/chat

Press Ctrl-C in curl while it streams: the model's server prints where it stopped. This app is the
model's server, too. Set `UPSTREAM_URL` to relay another stream of events.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator

import anyio
import httpx
import uvicorn
from anyio.streams.memory import MemoryObjectSendStream
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from sse_batching import SSEBatchingMiddleware, current_token

TEXT = "Close the call, and the machine at the other end is free for somebody else. " * 20
SECONDS_PER_WORD = 0.0125
TIMEOUT = httpx.Timeout(10.0, read=None)  # a model may think for as long as it likes


async def ask(url: str, parts: MemoryObjectSendStream[bytes]) -> None:
    """The agent. It runs in a task of its own. Cancelling the task closes the call at once."""
    async with (
        parts,
        httpx.AsyncClient(timeout=TIMEOUT) as client,
        client.stream("GET", url) as upstream,
    ):
        upstream.raise_for_status()
        async for part in upstream.aiter_bytes():
            await parts.send(part)


async def answer(url: str) -> AsyncIterator[bytes]:
    # Unbuffered, so a slow reader makes the model's server wait, and costs no memory.
    sender, parts = anyio.create_memory_object_stream[bytes]()
    agent = asyncio.create_task(ask(url, sender))
    with current_token().register(agent.cancel), parts:
        async for part in parts:
            yield part
    await asyncio.wait([agent])
    if not agent.cancelled():
        agent.result()  # raises the agent's error if it failed


async def chat(request: Request) -> StreamingResponse:
    host, port = request.scope["server"]
    url = os.environ.get("UPSTREAM_URL", f"http://{host}:{port}/upstream")
    return StreamingResponse(answer(url), media_type="text/event-stream")


async def upstream(request: Request) -> StreamingResponse:
    """Stand in for the model's server."""

    async def generate() -> AsyncIterator[str]:
        words = 0
        try:
            for word in TEXT.split():
                await anyio.sleep(SECONDS_PER_WORD)
                words += 1
                yield f"data: {json.dumps({'delta': word + ' '})}\n\n"
            yield "data: [DONE]\n\n"
        finally:
            print(f"upstream: {words} of {len(TEXT.split())} words generated", flush=True)

    return StreamingResponse(generate(), media_type="text/event-stream")


app = Starlette(routes=[Route("/chat", chat), Route("/upstream", upstream)])
app.add_middleware(SSEBatchingMiddleware)


if __name__ == "__main__":
    uvicorn.run(app)
