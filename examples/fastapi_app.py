"""A FastAPI app that streams in both ways that FastAPI has, with the token as a dependency.

    python examples/fastapi_app.py
    curl -N http://127.0.0.1:8000/events
    curl -N http://127.0.0.1:8000/chat

Press Ctrl-C in curl while it streams: the server prints where the agent stopped.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated

import anyio
import uvicorn
from fastapi import Depends, FastAPI, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from sse_batching import CancellationToken, SSEBatchingMiddleware, get_token

TEXT = "A dependency is a good place to ask whether anybody is still listening. " * 20
SECONDS_PER_WORD = 0.0125

app = FastAPI()
app.add_middleware(SSEBatchingMiddleware)


def token_of(request: Request) -> CancellationToken:
    return get_token(request)


Token = Annotated[CancellationToken, Depends(token_of)]


async def words(token: CancellationToken) -> AsyncIterator[str]:
    """The agent. It yields one word at a time until its token is cancelled."""
    for position, word in enumerate(TEXT.split()):
        await anyio.sleep(SECONDS_PER_WORD)  # a real agent waits for its model here
        if token.cancelled:
            print(f"stopped after {position} words: {token.message}", flush=True)
            return
        yield word + " "


@app.get("/events", response_class=EventSourceResponse)
async def events(token: Token) -> AsyncIterator[ServerSentEvent]:
    """Let FastAPI make the events."""
    async for word in words(token):
        yield ServerSentEvent(data={"delta": word})


@app.get("/chat")
async def chat(token: Token) -> StreamingResponse:
    """Make the events by hand."""

    async def answer() -> AsyncIterator[str]:
        async for word in words(token):
            yield f"data: {json.dumps({'delta': word})}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(answer(), media_type="text/event-stream")


if __name__ == "__main__":
    uvicorn.run(app)
