"""A Starlette app. One line batches its stream, and a token stops its agent, an async generator.

    python examples/starlette_app.py
    curl -N http://127.0.0.1:8000/chat

Press Ctrl-C in curl while it streams: the server prints where the agent stopped.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from sse_batching import SSEBatchingMiddleware, current_token

TEXT = "Somebody pays for every token, even for the tokens that nobody reads. " * 20
SECONDS_PER_WORD = 0.0125


async def answer() -> AsyncIterator[str]:
    token = current_token()
    for position, word in enumerate(TEXT.split()):
        await anyio.sleep(SECONDS_PER_WORD)  # a real agent waits for its model here
        if token.cancelled:
            print(f"stopped after {position} words: {token.message}", flush=True)
            return
        yield f"data: {json.dumps({'delta': word + ' '})}\n\n"
    yield "data: [DONE]\n\n"


async def chat(request: Request) -> StreamingResponse:
    return StreamingResponse(answer(), media_type="text/event-stream")


app = Starlette(routes=[Route("/chat", chat)])
app.add_middleware(SSEBatchingMiddleware)


if __name__ == "__main__":
    uvicorn.run(app)
