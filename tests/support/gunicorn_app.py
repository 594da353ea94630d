"""An app for a gunicorn in a process of its own. It prints how its cleanup ends."""

from __future__ import annotations

import anyio

from sse_batching import SSEBatchingMiddleware, current_token
from sse_batching._types import Receive, Scope, Send


async def stream(scope: Scope, receive: Receive, send: Send) -> None:
    """Send an event, wait for the token, and clean up: for a moment at `/short`, else for long."""
    if scope["type"] != "http":
        return
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"data: 0\n\n", "more_body": True})
    await current_token().wait_async()
    print(f"token: {current_token().reason}", flush=True)
    try:
        await anyio.sleep(0.1 if scope["path"] == "/short" else 60)
    except anyio.get_cancelled_exc_class():
        print("cancelled while it cleaned up", flush=True)
        raise
    print("cleaned up", flush=True)


app = SSEBatchingMiddleware(stream, grace_period=60)
