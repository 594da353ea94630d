"""The app that is measured, once for each rival: `uvicorn --factory benchmarks.apps:NAME`.

`/stream` streams events. The query says how:

- `count`: number of events;
- `rate`: events a second; 0 is flat out, as a producer does that never awaits anything;
- `phase`: seconds from `/go` to the first event; 0 does not wait for `/go`;
- `lead`: seconds from the first event to the second. The others follow at `rate`. LLM streams begin
  like that: a chunk that has a role and no text, and the first text a few milliseconds later.

`/hello` answers a request that does not stream. `/stats` and `/go` are in `meter`.
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
"""A chat event of the same size. Its delta is the stamp, so a merged event has all the stamps."""


METERS: Final[list[BaseRoute]] = [Route("/stats", stats), Route("/go", go)]

Endpoint = Callable[[Request], Awaitable[Response]]

RIVALS: Final = {
    "production": "the events are produced, and thrown away before they reach the server",
    "bare": "Starlette's `StreamingResponse`",
    "by-hand": "batching written into the app, with a timer task and a lock",
    "sse-starlette": "the `EventSourceResponse` of sse-starlette",
    "fastapi": "FastAPI's own `EventSourceResponse`",
    "middleware": "`StreamingResponse` behind `SSEBatchingMiddleware`",
}
OPTIONAL: Final = {
    "simplest": "a middleware with a list and one shared timer, which promises nothing",
    "fastapi-middleware": "FastAPI's `EventSourceResponse` behind the middleware",
    "sse-starlette-middleware": "the `EventSourceResponse` of sse-starlette behind the middleware",
    "pass-through": "bare, behind a middleware that passes all messages on",
    "least": "bare, with a context variable and a look at each message: ours needs both",
    "cancel-scope": "bare, in an unused `CancelScope` of anyio",
    "merging": "Chat Completions deltas of the same size, which the middleware merges as well",
}


class Plan:
    """The times at which the events of a stream are due."""

    def __init__(self, count: int, rate: float, phase: float, lead: float = 0) -> None:
        self.count = count
        self._rate = rate
        self._phase = phase
        self._lead = lead
        self._began = 0.0

    async def wait_for_start(self) -> None:
        """Wait until the streams may begin. A stream without a phase begins at once."""
        begins = await METER.gate() if self._phase else time.monotonic()
        self._began = begins + self._phase

    async def wait_for_event(self, number: int) -> None:
        """Wait until the event of that number is due."""
        if self._rate:
            delay = self._began + self._due(number) - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)

    def _due(self, number: int) -> float:
        """Return the seconds from the first event to the event of that number."""
        if self._lead and number:
            return self._lead + (number - 1) / self._rate
        return number / self._rate


def plan_of(request: Request) -> Plan:
    query = request.query_params
    rate, phase, lead = (float(query.get(name, 0)) for name in ("rate", "phase", "lead"))
    return Plan(int(query["count"]), rate, phase, lead)


async def chunks(plan: Plan, event: bytes = EVENT) -> AsyncIterator[bytes]:
    await plan.wait_for_start()
    for number in range(plan.count):
        await plan.wait_for_event(number)
        yield event % METER.stamp()


async def stream(request: Request) -> Response:
    return StreamingResponse(chunks(plan_of(request)), media_type=EVENT_STREAM)


async def hello(request: Request) -> JSONResponse:
    return JSONResponse({"hello": "world"})


def starlette(stream: Endpoint = stream) -> Starlette:
    return Starlette(routes=[Route("/stream", stream), Route("/hello", hello), *METERS])


# The rivals. Each function makes one.


def bare() -> ASGIApp:
    """Return an app with Starlette's StreamingResponse, without middleware."""
    return starlette()


def middleware() -> ASGIApp:
    """Return the bare app behind the middleware of this package."""
    app = starlette()
    app.add_middleware(SSEBatchingMiddleware)
    return app


def production() -> ASGIApp:
    """Return the bare app. Its events are thrown away before they reach the server."""
    return Discard(starlette())


class Discard:
    """Middleware that throws away all chunks but the last."""

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
    """Return an app that batches by itself, with a timer task and a lock."""
    return starlette(stream_by_hand)


async def dicts(plan: Plan) -> AsyncIterator[dict[str, str]]:
    await plan.wait_for_start()
    for number in range(plan.count):
        await plan.wait_for_event(number)
        yield {"data": DATA % METER.stamp()}


async def stream_sse_starlette(request: Request) -> Response:
    return SSEStarletteResponse(dicts(plan_of(request)))


def sse_starlette() -> ASGIApp:
    """Return an app with the EventSourceResponse of sse-starlette."""
    return starlette(stream_sse_starlette)


class Answer(BaseModel):
    """Response model, which FastAPI validates and writes as JSON."""

    hello: str
    tokens: int
    tags: list[str]


async def stream_fastapi(
    count: int, rate: float = 0, phase: float = 0, lead: float = 0
) -> AsyncIterator[ServerSentEvent]:
    plan = Plan(count, rate, phase, lead)
    await plan.wait_for_start()
    for number in range(count):
        await plan.wait_for_event(number)
        yield ServerSentEvent(raw_data=DATA % METER.stamp())


async def hello_fastapi() -> Answer:
    return Answer(hello="world", tokens=17, tags=["a", "b"])


def fastapi() -> FastAPI:
    """Return an app with FastAPI's own EventSourceResponse, from a generator endpoint."""
    app = FastAPI(routes=METERS)
    app.get("/stream", response_class=EventSourceResponse)(stream_fastapi)
    app.get("/hello")(hello_fastapi)
    return app


# Not rivals. Each shows what a part of the work costs.


def simplest() -> ASGIApp:
    """Return the bare app behind the simplest middleware that batches."""
    return Simplest(starlette())


async def stream_chat(request: Request) -> Response:
    return StreamingResponse(chunks(plan_of(request), CHAT_EVENT), media_type=EVENT_STREAM)


def merging() -> ASGIApp:
    """Return an app that streams chat events, behind the middleware, which merges."""
    app = starlette(stream_chat)
    app.add_middleware(SSEBatchingMiddleware, merge="auto")
    return app


def fastapi_middleware() -> ASGIApp:
    """Return the app of FastAPI behind the middleware."""
    app = fastapi()
    app.add_middleware(SSEBatchingMiddleware)
    return app


def sse_starlette_middleware() -> ASGIApp:
    """Return the app with sse-starlette behind the middleware."""
    app = starlette(stream_sse_starlette)
    app.add_middleware(SSEBatchingMiddleware)
    return app


def pass_through() -> ASGIApp:
    """Return the bare app behind a middleware that passes all messages on."""
    app = starlette()

    async def passing(scope: Scope, receive: Receive, send: Send) -> None:
        def pass_on(message: Message) -> Awaitable[None]:
            return send(message)

        await app(scope, receive, pass_on)

    return passing


def least() -> ASGIApp:
    """Return the bare app behind a middleware that does the least that ours has to do."""
    return Least(starlette())


def cancel_scope() -> ASGIApp:
    """Return the bare app in an unused CancelScope of anyio."""
    app = starlette()

    async def scoped(scope: Scope, receive: Receive, send: Send) -> None:
        with anyio.CancelScope():
            await app(scope, receive, send)

    return scoped
