"""A blocking agent in a thread. Cancelling a task does not stop a thread, but the token does.

    python examples/blocking_agent.py
    curl -N http://127.0.0.1:8000/chat

Press Ctrl-C in curl while it streams: the server prints where the agent stopped.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from sse_batching import SSEBatchingMiddleware, current_token

TEXT = "A thread cannot be stopped from outside, but it can be asked to stop. " * 20
SECONDS_PER_WORD = 0.0125


class Agent:
    """A stand-in for any agent with a blocking `run` and a thread-safe `interrupt`."""

    def __init__(self) -> None:
        self._message = ""
        self._interrupted = threading.Event()

    def run(self, on_delta: Callable[[str], None]) -> None:
        for position, word in enumerate(TEXT.split()):
            if self._interrupted.wait(SECONDS_PER_WORD):  # a real agent waits for its model here
                print(f"interrupted after {position} words: {self._message}", flush=True)
                return
            on_delta(word + " ")

    def interrupt(self, message: str) -> None:
        self._message = message
        self._interrupted.set()


async def answer(agent: Agent) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    deltas: asyncio.Queue[str | None] = asyncio.Queue()

    def put(delta: str) -> None:
        loop.call_soon_threadsafe(deltas.put_nowait, delta)

    work = loop.run_in_executor(None, agent.run, put)
    work.add_done_callback(lambda _: deltas.put_nowait(None))
    while (delta := await deltas.get()) is not None:
        yield f"data: {json.dumps({'delta': delta})}\n\n"
    await work  # raises the agent's error if it failed
    yield "data: [DONE]\n\n"


async def chat(request: Request) -> StreamingResponse:
    agent = Agent()
    current_token().register(agent.interrupt, "SSE client disconnected")  # the whole wiring
    return StreamingResponse(answer(agent), media_type="text/event-stream")


app = Starlette(routes=[Route("/chat", chat)])
app.add_middleware(SSEBatchingMiddleware)


if __name__ == "__main__":
    uvicorn.run(app)
