"""The demo's server: the page, and the same chat handler plain, batched and merged."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from examples.demo.agent import TOKENS_PER_SECOND, Agent, Source, configured_source
from examples.demo.metering import Metered, current_run, time_tasks_of_runs
from examples.demo.runs import Runs
from sse_batching import SSEBatchingMiddleware, current_token

FASTEST = 2_000.0  # tokens per second; the replay cannot be faster
SHUTDOWN_SECONDS = 1  # for streams that are still open after Ctrl-C


def create_app(make_source: Callable[[float], Source] = configured_source) -> Starlette:
    """Return the demo's app. `make_source` gets the tokens per second that a request asks for."""
    runs = Runs()

    async def chat(request: Request) -> Response:
        agent = Agent(make_source(_tokens_per_second(request)))
        current_run.get().agent = agent
        with suppress(LookupError):  # there is no token on the plain side
            current_token().register(agent.interrupt, "SSE client disconnected")
        return StreamingResponse(_events(agent), media_type="text/event-stream")

    async def show_run(request: Request) -> Response:
        figures = runs.snapshot(request.path_params["run_id"])
        return JSONResponse(figures, headers={"Cache-Control": "no-store"})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        time_tasks_of_runs(asyncio.get_running_loop())
        yield

    chat_app = Starlette(routes=[Route("/chat", chat)])
    sides: dict[str, ASGIApp] = {
        "plain": chat_app,
        "batched": SSEBatchingMiddleware(chat_app),
        "merged": SSEBatchingMiddleware(chat_app, merge="auto"),
    }
    app = Starlette(
        routes=[
            *(Mount(f"/{name}", Metered(side, runs, name)) for name, side in sides.items()),
            Route("/runs/{run_id}", show_run),
            Mount("/", StaticFiles(directory=Path(__file__).parent / "static", html=True)),
        ],
        lifespan=lifespan,
    )
    app.state.runs = runs
    return app


class Server(uvicorn.Server):
    """A server for the demo's app. It does not configure logging."""

    def __init__(self, app: Starlette) -> None:
        # asyncio writes in the task that calls `send`, where the CPU time is measured. uvloop
        # writes later, for all connections together, where no side can be charged for it.
        super().__init__(
            uvicorn.Config(
                app, loop="asyncio", log_config=None, timeout_graceful_shutdown=SHUTDOWN_SECONDS
            )
        )
        self._runs: Runs = app.state.runs

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Once their agents have stopped, open streams end by themselves, and none is cut off.
        self._runs.interrupt_agents("the server shuts down")
        await super().shutdown(sockets)


async def _events(agent: Agent) -> AsyncIterator[str]:
    """Run `agent` in a thread of its own, and yield its chunks as server-sent events."""
    loop = asyncio.get_running_loop()
    # Unbounded, as in most servers of this kind, so the agent never waits for its reader.
    chunks: asyncio.Queue[str | None] = asyncio.Queue()

    def emit(chunk: str | None) -> None:
        with suppress(RuntimeError):  # the server has shut down, and its event loop is closed
            loop.call_soon_threadsafe(chunks.put_nowait, chunk)

    def work() -> None:
        agent.run(emit)
        emit(None)

    # A daemon, because the process would wait for an agent that nobody interrupts.
    threading.Thread(target=work, name="agent", daemon=True).start()
    while (chunk := await chunks.get()) is not None:
        yield f"data: {chunk}\n\n"
    if agent.error is not None:
        yield f"data: {json.dumps({'error': {'message': str(agent.error)}})}\n\n"
    yield "data: [DONE]\n\n"


def _tokens_per_second(request: Request) -> float:
    text = request.query_params.get("tokens_per_second", str(TOKENS_PER_SECOND))
    with suppress(ValueError):
        if 0 < (pace := float(text)) <= FASTEST:
            return pace
    raise HTTPException(
        400, f"tokens_per_second must be above 0 and at most {FASTEST:g}; got {text!r}"
    )
