"""An ASGI app without a framework. The middleware wraps it, and its token comes from the scope.

    python examples/raw_asgi.py
    curl -N http://127.0.0.1:8000/

Press Ctrl-C in curl while it streams: the server prints where the app stopped.
"""

from __future__ import annotations

import json

import anyio
import uvicorn
from starlette.types import Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware, get_token

TEXT = "A dictionary and two callables are all that an ASGI app is given. " * 20
SECONDS_PER_WORD = 0.0125


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    token = get_token(scope)
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"text/event-stream")],
        }
    )
    for position, word in enumerate(TEXT.split()):
        await anyio.sleep(SECONDS_PER_WORD)  # a real agent waits for its model here
        if token.cancelled:
            print(f"stopped after {position} words: {token.message}", flush=True)
            return
        event = f"data: {json.dumps({'delta': word + ' '})}\n\n"
        await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})


app = SSEBatchingMiddleware(answer)


if __name__ == "__main__":
    uvicorn.run(app, lifespan="off")  # the app answers HTTP requests only
