"""The same app once for each rival, for `uvicorn --factory benchmarks.apps:NAME`.

`/stream?count=&rate=&phase=&lead=`: so many events, so many a second, the first so many seconds
after `/go`; with no phase at once. Rate 0 is flat out: what a producer does that never awaits
anything. With a lead, the second event comes so many seconds after the first, and the others after
the second: an LLM's first chunk has no text, only a role, and the text comes right behind it.
`/hello`: a request that does not stream. `/stats`: see `meter`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import anyio
from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel
from sse_starlette import EventSourceResponse as SSEStarletteResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware

from .by_hand import BatchedByHand
from .least import Least
from .meter import METER, go, stats
from .simplest import Simplest

EVENT_STREAM: Final = "text/event-stream"
EVENT_SIZE: Final = 190
STAMP: Final = '{"at":"%020d","text":"'
DATA: Final = STAMP + "x" * (EVENT_SIZE - len(f"data: {STAMP % 0}" + '"}\n\n')) + '"}'
EVENT: Final = f"data: {DATA}\n\n".encode()

CHAT: Final = (
    '","object":"chat.completion.chunk","created":1700000000,"model":"m",'
    '"choices":[{"index":0,"delta":{"content":"%020d"},"finish_reason":null}]}\n\n'
)
CHAT_ID: Final = 'data: {"id":"'.ljust(EVENT_SIZE - len(CHAT % 0), "x")
CHAT_EVENT: Final = f"{CHAT_ID}{CHAT}".encode()
"""Of the same size. Its delta is the stamp, so the stamps of all are in what is merged."""


METERS: Final[list[BaseRoute]] = [Route("/stats", stats), Route("/go", go)]

Endpoint = Callable[[Request], Awaitable[Response]]

RIVALS: Final = {
    "production": "the events are produced, and thrown away in front of the server",
    "bare": "Starlette's `StreamingResponse`",
    "by-hand": "batching written into the app: a timer task and a lock",
    "sse-starlette": "the `EventSourceResponse` of sse-starlette",
    "fastapi": "FastAPI's own `EventSourceResponse`",
    "middleware": "`StreamingResponse` behind `SSEBatchingMiddleware`",
}
OPTIONAL: Final = {
    "simplest": "a middleware that gathers and writes by a timer, and promises nothing",
    "fastapi-middleware": "FastAPI's behind the middleware",
    "sse-starlette-middleware": "that of sse-starlette behind the middleware",
    "pass-through": "bare behind a middleware that passes all on, and does nothing",
    "least": "bare, in a context variable, and with a look at each message: ours needs both",
    "cancel-scope": "bare, in an anyio `CancelScope` that does nothing",
    "merging": "Chat Completions deltas of the same size, which the middleware merges, too",
}


class Plan:
    """When the events of a stream are due."""

    def __init__(self, count: int, rate: float, phase: float, lead: float = 0) -> None:
        self.count = count
        self._rate = rate
        self._phase = phase
        self._lead = lead
        self._began = 0.0

    async def opening(self) -> None:
        """Wait until the streams may begin. A stream without a phase of its own begins at once."""
        begins = await METER.gate() if self._phase else time.monotonic()
        self._began = begins + self._phase

    async def turn(self, number: int) -> None:
        """Wait until that event is due."""
        if self._rate:
            delay = self._began + self._due(number) - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)

    def _due(self, number: int) -> float:
        """Return when that event is due, in seconds from the first."""
        if self._lead and number:
            return self._lead + (number - 1) / self._rate
        return number / self._rate


def plan_of(request: Request) -> Plan:
    query = request.query_params
    rate, phase, lead = (float(query.get(name, 0)) for name in ("rate", "phase", "lead"))
    return Plan(int(query["count"]), rate, phase, lead)


async def chunks(plan: Plan, event: bytes = EVENT) -> AsyncIterator[bytes]:
    await plan.opening()
    for number in range(plan.count):
        await plan.turn(number)
        yield event % METER.stamp()


async def stream(request: Request) -> Response:
    return StreamingResponse(chunks(plan_of(request)), media_type=EVENT_STREAM)


async def hello(request: Request) -> JSONResponse:
    return JSONResponse({"hello": "world"})


def starlette(stream: Endpoint = stream) -> Starlette:
    return Starlette(routes=[Route("/stream", stream), Route("/hello", hello), *METERS])


# The rivals.


def bare() -> ASGIApp:
    """Starlette's StreamingResponse, and nothing else."""
    return starlette()


def middleware() -> ASGIApp:
    """The same with the middleware of this package."""
    app = starlette()
    app.add_middleware(SSEBatchingMiddleware)
    return app


def production() -> ASGIApp:
    """The same with its events thrown away before they reach the server."""
    return Discard(starlette())


class Discard:
    """Throws away all chunks but the last."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def discard(message: Message) -> None:
            if not message.get("more_body", False):
                await send(message)

        await self.app(scope, receive, discard)


async def stream_by_hand(request: Request) -> Response:
    return BatchedByHand(chunks(plan_of(request)), media_type=EVENT_STREAM)


def by_hand() -> ASGIApp:
    """Batching written into the app: a task with a timer, and a lock."""
    return starlette(stream_by_hand)


async def dicts(plan: Plan) -> AsyncIterator[dict[str, str]]:
    await plan.opening()
    for number in range(plan.count):
        await plan.turn(number)
        yield {"data": DATA % METER.stamp()}


async def stream_sse_starlette(request: Request) -> Response:
    return SSEStarletteResponse(dicts(plan_of(request)))


def sse_starlette() -> ASGIApp:
    """The EventSourceResponse of sse-starlette."""
    return starlette(stream_sse_starlette)


class Answer(BaseModel):
    """What FastAPI validates and writes as JSON."""

    hello: str
    tokens: int
    tags: list[str]


async def stream_fastapi(
    count: int, rate: float = 0, phase: float = 0, lead: float = 0
) -> AsyncIterator[ServerSentEvent]:
    plan = Plan(count, rate, phase, lead)
    await plan.opening()
    for number in range(count):
        await plan.turn(number)
        yield ServerSentEvent(raw_data=DATA % METER.stamp())


async def hello_fastapi() -> Answer:
    return Answer(hello="world", tokens=17, tags=["a", "b"])


def fastapi() -> FastAPI:
    """FastAPI's own EventSourceResponse, from a generator endpoint."""
    app = FastAPI(routes=METERS)
    app.get("/stream", response_class=EventSourceResponse)(stream_fastapi)
    app.get("/hello")(hello_fastapi)
    return app


# Not rivals, but worth a comparison.


def simplest() -> ASGIApp:
    """The least that batching by a middleware can cost."""
    return Simplest(starlette())


async def stream_chat(request: Request) -> Response:
    return StreamingResponse(chunks(plan_of(request), CHAT_EVENT), media_type=EVENT_STREAM)


def merging() -> ASGIApp:
    """The middleware of this package, which merges as well."""
    app = starlette(stream_chat)
    app.add_middleware(SSEBatchingMiddleware, merge="auto")
    return app


def fastapi_middleware() -> ASGIApp:
    """FastAPI's with the middleware."""
    app = fastapi()
    app.add_middleware(SSEBatchingMiddleware)
    return app


def sse_starlette_middleware() -> ASGIApp:
    """That of sse-starlette with the middleware."""
    app = starlette(stream_sse_starlette)
    app.add_middleware(SSEBatchingMiddleware)
    return app


def pass_through() -> ASGIApp:
    """A middleware that does nothing: what it costs, no middleware can save."""
    app = starlette()

    async def passing(scope: Scope, receive: Receive, send: Send) -> None:
        def pass_on(message: Message) -> Awaitable[None]:
            return send(message)

        await app(scope, receive, pass_on)

    return passing


def least() -> ASGIApp:
    """A context variable that is set and reset, and a look at each message."""
    return Least(starlette())


def cancel_scope() -> ASGIApp:
    """An anyio CancelScope around the app, and nothing else."""
    app = starlette()

    async def scoped(scope: Scope, receive: Receive, send: Send) -> None:
        with anyio.CancelScope():
            await app(scope, receive, send)

    return scoped
