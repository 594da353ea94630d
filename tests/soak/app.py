"""The server's side of the soak: apps of every kind behind one middleware.

A `Record` is kept of each stream. `uvicorn tests.soak.app:app` serves the apps.
"""

from __future__ import annotations

import itertools
import logging
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from contextvars import ContextVar
from typing import Annotated, Any, Final

import anyio
import anyio.from_thread
import anyio.to_thread
from fastapi import Depends, FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sse_batching import (
    CancellationToken,
    CancelReason,
    SSEBatchingMiddleware,
    StreamReport,
    current_stream,
)
from sse_batching._types import SCOPE_KEY
from tests.soak.plan import Order
from tests.soak.record import Record, Streams, as_json, report, take_state

GRACE_PERIOD: Final = 0.3
SEND_TIMEOUT: Final = 4.0
EVENT_STREAM: Final = "text/event-stream"

NOBODY_CAME: Final = 60.0
"""Seconds after which an endless answer that was not stopped raises an error."""

THREADS: Final = 16
"""The largest number of threads for agents in threads."""

streams: Final = Streams()
lifetime: Final = CancellationToken()
"""A token that outlives all requests."""
pool: Final = anyio.CapacityLimiter(THREADS)
log: Final[Counter[str]] = Counter()
current_record: Final[ContextVar[Record]] = ContextVar("soak.record")


class CountLines(logging.Handler):
    """Count the lines of the log, by logger and level."""

    def emit(self, record: logging.LogRecord) -> None:
        log[f"{record.name} {record.levelname}"] += 1


def order_of(scope: Scope) -> Order:
    return Order.parse(scope["query_string"])


async def answer(order: Order, token: CancellationToken | None = None) -> AsyncIterator[bytes]:
    """Yield the events of an agent. A cancelled token stops the agent, if it was given a token."""
    record = current_record.get()
    record.opened += 1
    began = anyio.current_time()
    try:
        await anyio.sleep(order.first)
        for number in itertools.count():
            if number == order.events or (token is not None and token.cancelled):
                return
            if anyio.current_time() - began > NOBODY_CAME:
                raise RuntimeError(f"not stopped: {order}")
            yield order.event(number)
            if order.pace:  # without a pace the agent never awaits anything
                await anyio.sleep(order.pace)
    finally:
        streams.closed(record)


def ask() -> CancellationToken:
    return streams.ask(current_record.get())


def stream(parts: AsyncIterator[bytes]) -> Response:
    return StreamingResponse(parts, media_type=EVENT_STREAM)


# Starlette.


async def silent(request: Request) -> Response:
    """Stream without asking for the token."""
    order = order_of(request.scope)
    await anyio.sleep(order.before)
    return stream(answer(order))


async def obeys(request: Request) -> Response:
    """Ask for the token, wait for its cancellation, and stop streaming on cancellation."""
    order, token = order_of(request.scope), ask()
    with anyio.move_on_after(order.before):
        await token.wait_async()
    return stream(answer(order, token))


async def ignores(request: Request) -> Response:
    """Ask for the token and ignore its cancellation."""
    order, _ = order_of(request.scope), ask()
    await anyio.sleep(order.before)
    return stream(answer(order))


async def linked(request: Request) -> Response:
    """Stream with a token that a token with a longer life would cancel, too."""
    order, token = order_of(request.scope), ask()
    await anyio.sleep(order.before)

    async def parts() -> AsyncIterator[bytes]:
        with lifetime.register(token.cancel, CancelReason.SERVER_SHUTDOWN):
            async with aclosing(answer(order, token)) as inner:  # type: ignore[type-var]
                async for part in inner:
                    yield part

    return stream(parts())


async def upload(request: Request) -> Response:
    """Read the request body, and send its checksum as the first event."""
    order, token = order_of(request.scope), ask()
    checksum = 0
    async for part in request.stream():
        checksum = zlib.crc32(part, checksum)

    async def parts() -> AsyncIterator[bytes]:
        yield b"data: %d\n\n" % checksum
        async with aclosing(answer(order, token)) as inner:  # type: ignore[type-var]
            async for part in inner:
                yield part

    return stream(parts())


async def waits(request: Request) -> Response:
    """Wait for the token's cancellation, then send a response that does not stream."""
    order, token = order_of(request.scope), ask()
    with anyio.move_on_after(order.before):
        await token.wait_async()
    return JSONResponse({"number": order.number})


async def ended(request: Request) -> Response:
    return JSONResponse([as_json(record) for record in streams.fetch()])


# FastAPI.

fast: Final = FastAPI()


async def asked() -> AsyncIterator[CancellationToken]:
    """Yield the token as a dependency that needs teardown."""
    record = current_record.get()
    record.opened += 1
    try:
        yield ask()
    finally:
        streams.closed(record)


Token = Annotated[CancellationToken, Depends(asked)]


@fast.get("/fastapi")
async def fastapi(request: Request, token: Token) -> StreamingResponse:
    order = order_of(request.scope)
    await anyio.sleep(order.before)
    return StreamingResponse(answer(order, token), media_type=EVENT_STREAM)


@fast.get("/fastapi-sse", response_class=EventSourceResponse)
async def fastapi_sse(request: Request, token: Token) -> AsyncIterator[ServerSentEvent]:
    order = order_of(request.scope)
    await anyio.sleep(order.before)
    async with aclosing(answer(order, token)) as inner:  # type: ignore[type-var]
        async for part in inner:
            yield ServerSentEvent(raw_data=part[6:-2].decode())


# Bare ASGI.

START: Final[Message] = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", EVENT_STREAM.encode())],
}
LAST: Final[Message] = {"type": "http.response.body", "body": b"", "more_body": False}


def chunk(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def raw_silent(scope: Scope, receive: Receive, send: Send) -> None:
    """Stream without token and `receive`: only `send` can report the disconnect."""
    order = order_of(scope)
    await anyio.sleep(order.before)
    await send(START)
    async with aclosing(answer(order)) as parts:  # type: ignore[type-var]
        async for part in parts:
            await send(chunk(part))
    await send(LAST)


async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    """Ask for the token, then stream as `raw_silent` does."""
    ask()
    await raw_silent(scope, receive, send)


async def thread(scope: Scope, receive: Receive, send: Send) -> None:
    """Run a blocking agent in a thread, from a pool with fewer threads than agents."""
    order, token = order_of(scope), ask()
    await anyio.sleep(order.before)
    await send(START)

    async def emit(body: bytes) -> None:
        await send(chunk(body))

    def work() -> bool:
        stopped = token.wait(order.first)
        for number in itertools.count():
            if stopped or number == order.events:
                return stopped
            anyio.from_thread.run(emit, order.event(number))
            stopped = token.wait(order.pace)
        raise AssertionError

    if not await anyio.to_thread.run_sync(work, limiter=pool):
        await send(LAST)


# In front and around.


def on_close(told: StreamReport) -> None:
    report(current_record.get(), told)


def is_last(message: Message) -> bool:
    return message["type"] == "http.response.body" and not message.get("more_body")


def in_a_stream() -> bool:
    """Return True if the context has a request in it."""
    try:
        current_stream()
    except LookupError:
        return False
    return True


class Around:
    """Record each request, between the server and the middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/state":
            state = JSONResponse(as_json(take_state(streams, lifetime, log)))
            await state(scope, receive, send)
        elif scope["type"] != "http" or scope["path"] == "/ended":
            await self._app(scope, receive, send)
        else:
            await self._watch(scope, receive, send)

    async def _watch(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = Record(number=order_of(scope).number)
        streams.open[record.number] = record
        # uvicorn on asyncio may serve a request in the context of the previous request.
        found = in_a_stream()
        before = current_record.set(record)

        async def watched_receive() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and not record.last_taken:
                record.told = True
                record.told_before_last |= not record.last_began
            return message

        async def watched_send(message: Message) -> None:
            await send(message)
            record.last_taken |= is_last(message)

        try:
            await self._app(scope, watched_receive, watched_send)
        except BaseException as error:
            record.left.append(repr(error))
            raise
        finally:
            if in_a_stream() and not found:
                record.left.append("context variable")
            if SCOPE_KEY in scope:
                record.left.append("key in the scope")
            current_record.reset(before)
            streams.returned(record)


logging.getLogger().addHandler(CountLines())
logging.getLogger().setLevel(logging.INFO)

routes: Final[list[Any]] = [
    Route("/silent", silent),
    Route("/obeys", obeys),
    Route("/ignores", ignores),
    Route("/linked", linked),
    Route("/upload", upload, methods=["POST"]),
    Route("/waits", waits),
    Route("/ended", ended),
    Mount("/", fast),
]
BARE: Final[dict[str, ASGIApp]] = {"/raw": raw, "/raw-silent": raw_silent, "/thread": thread}
starlette: Final = Starlette(routes=routes)


async def every_app(scope: Scope, receive: Receive, send: Send) -> None:
    record = current_record.get(None)

    async def watched_send(message: Message) -> None:
        if record is not None and is_last(message):
            record.last_began = True
        await send(message)

    await BARE.get(scope.get("path", ""), starlette)(scope, receive, watched_send)


app: Final = Around(
    SSEBatchingMiddleware(
        every_app,
        grace_period=GRACE_PERIOD,
        send_timeout=SEND_TIMEOUT,
        on_close=on_close,
    )
)
