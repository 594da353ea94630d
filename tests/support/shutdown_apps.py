"""An app for a process that has to shut down while its streams are open.

Each agent prints the reason of its token on standard output, and `on_close` prints its name.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator

import anyio
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse

from sse_batching import CancellationToken, SSEBatchingMiddleware, get_token
from sse_batching._types import Receive, Scope, Send

app = FastAPI()


def start_agent(name: str, token: CancellationToken) -> None:
    """Start an agent in a thread. It waits for its model without end, until it is interrupted."""
    interrupted = threading.Event()

    def interrupt() -> None:
        print(f"{name}: {token.reason}", flush=True)
        interrupted.set()

    token.register(interrupt)
    threading.Thread(target=interrupted.wait, name=name).start()


async def waiting() -> AsyncIterator[bytes]:
    yield b"data: 0\n\n"
    await anyio.sleep_forever()


@app.get("/starlette")
async def starlette(request: Request) -> StreamingResponse:
    start_agent("starlette", get_token(request))
    return StreamingResponse(waiting(), media_type="text/event-stream")


@app.get("/fastapi", response_class=EventSourceResponse)
async def fastapi(request: Request) -> AsyncIterator[int]:
    start_agent("fastapi", get_token(request))
    yield 0
    await anyio.sleep_forever()


async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    start_agent("raw", get_token(scope))
    await begin(send)
    await anyio.sleep_forever()


async def stalled(scope: Scope, receive: Receive, send: Send) -> None:
    """Send more than any buffer takes, so that `send` waits: the client does not read."""
    start_agent("stalled", get_token(scope))
    await begin(send)
    while True:
        await send({"type": "http.response.body", "body": bytes(65_536), "more_body": True})


async def begin(send: Send) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"data: 0\n\n", "more_body": True})


@app.get("/json")
async def json(request: Request) -> None:
    start_agent("json", get_token(request))
    print("json: asked", flush=True)
    await anyio.sleep_forever()


app.mount("/raw", raw)
app.mount("/stalled", stalled)
app.add_middleware(SSEBatchingMiddleware, on_close=lambda _: print("on_close", flush=True))
