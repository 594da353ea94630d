"""The app that the servers run. It tells the tests what becomes of each request: one line of JSON
in a named pipe, so that nothing passes through the server for it."""

from __future__ import annotations

import gc
import itertools
import json
import os
from collections.abc import AsyncIterator, Awaitable
from contextvars import ContextVar
from pathlib import Path
from types import CoroutineType
from typing import Any, Final

import anyio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import sse_batching
from sse_batching import SSEBatchingMiddleware, StreamReport, current_stream, current_token
from sse_batching._loop import LazyTimer
from sse_batching._types import Message, Receive, Scope, Send
from tests.servers.matrix.phases import LAST, Phase, Then, chunks_after, chunks_before

PIPE: Final = os.open(os.environ["SERVER_MATRIX_PIPE"], os.O_WRONLY)
PACKAGE: Final = str(Path(sse_batching.__file__).parent)

# A generator must be closed by those who run it: a collection would close it as well.
gc.disable()


class Life:
    """One request, and what is told of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.released = anyio.Event()
        self._written = anyio.Event()
        self._taken = 0

    def tell(self, what: str, **details: Any) -> None:
        line = json.dumps({"request": self.name, "what": what, **details})
        os.write(PIPE, line.encode() + b"\n")

    def watch_token(self) -> None:
        token = self.token = current_token()
        self.registration = token.register(
            lambda: self.tell("cancelled", reason=token.reason, message=token.message)
        )

    async def write(self, send: Send, message: Message) -> None:
        """Hand a message of the middleware's to the server."""
        await send(message)
        self._taken += len(message.get("body", b""))
        self._written.set()
        self._written = anyio.Event()

    async def write_waits(self, size: int) -> bool:
        """Whether the server does not take these bytes: on this machine's own network nothing but a
        full buffer takes so long."""
        with anyio.move_on_after(0.05):
            while self._taken < size:
                await self._written.wait()
        return self._taken < size

    def over(self, raised: BaseException | None) -> None:
        self.registration.unregister()
        callbacks = len(self.token._callbacks)
        self.tell("over", callbacks=callbacks, raised=repr(raised) if raised else None)


lives: Final[dict[str, Life]] = {}
life_of_request: Final[ContextVar[Life]] = ContextVar("life_of_request")


async def agent(life: Life, phase: Phase, then: Then) -> AsyncIterator[bytes]:
    try:
        for chunk in chunks_before(phase):
            yield chunk
        if phase is not Phase.AFTER_END:
            life.tell("there")
            for chunk in chunks_after(phase, then):
                yield chunk
            if then is Then.FLOOD:
                life.tell("all sent")
            else:
                await anyio.sleep_forever()
    finally:
        life.tell("closed")


class LastMessageBehindOthers(Response):
    """A response that ends while the server is still busy with what came before, if anything can
    make it wait for its client: else after more than all buffers hold."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        life = life_of_request.get()
        current_stream().configure(max_delay=0)  # so that little is in each write
        sent = 0

        async def send_body(body: bytes, *, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": body, "more_body": more})

        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            for chunk in [
                *chunks_before(Phase.FINAL_WRITE),
                *chunks_after(Phase.FINAL_WRITE, Then.WAIT),
            ]:
                await send_body(chunk)
                sent += len(chunk)
                if await life.write_waits(sent):
                    break
            life.tell("there")
            await send_body(LAST, more=False)
        finally:
            life.tell("closed")


async def stream(request: Request) -> Response:
    """A handler that asks for its token, and leaves it to others to act on it."""
    life = life_of_request.get()
    phase, then = Phase(request.path_params["phase"]), Then(request.path_params["then"])
    life.watch_token()
    if phase is Phase.FINAL_WRITE:
        return LastMessageBehindOthers()
    if phase is Phase.BEFORE_START and then is Then.WAIT:
        life.tell("there")
        try:
            await current_token().wait_async()
        finally:
            life.tell("closed")
    work = agent(life, phase, then)
    waits = phase is Phase.AFTER_END and then is Then.WAIT
    after = BackgroundTask(wait_for_release, life) if waits else None
    return StreamingResponse(work, media_type="text/event-stream", background=after)


async def wait_for_release(life: Life) -> None:
    """Work that goes on after the response; its token is still there."""
    life.tell("there")
    await life.released.wait()


async def never_awaiting(request: Request) -> Response:
    """Its agent leaves the event loop no time but what it is made to leave."""
    life = life_of_request.get()
    life.watch_token()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"data: 0\n\n"
        finally:
            life.tell("closed")

    return StreamingResponse(endless(), media_type="text/event-stream")


async def ticking(request: Request) -> Response:
    """Its agent says something every few milliseconds, until it is released."""
    life = life_of_request.get()
    life.watch_token()

    async def ticks() -> AsyncIterator[bytes]:
        try:
            for number in itertools.count():
                yield b"data: %d\n\n" % number
                life.tell("tick", number=number)
                if life.released.is_set():
                    return
                await anyio.sleep(0.005)
        finally:
            life.tell("closed")

    return StreamingResponse(ticks(), media_type="text/event-stream")


def ended(report: StreamReport) -> None:
    life_of_request.get().tell("reported", outcome=report.outcome, reason=report.reason)


streams: Final = Starlette(
    routes=[
        Route("/never-awaiting/{name}", never_awaiting),
        Route("/ticking/{name}", ticking),
        Route("/{phase}/{then}/{name}", stream),
    ]
)
patient: Final = SSEBatchingMiddleware(streams, on_close=ended, grace_period=0.05)
hasty: Final = SSEBatchingMiddleware(streams, on_close=ended, grace_period=0.05, send_timeout=0.25)


async def batched(scope: Scope, receive: Receive, send: Send) -> None:
    """The middleware, with somebody around it who sees that it has returned."""
    *_, then, name = scope["path"].split("/")
    life = lives[name] = Life(name)
    life_of_request.set(life)
    raised: BaseException | None = None

    def send_to_server(message: Message) -> Awaitable[None]:
        return life.write(send, message)

    try:
        await (hasty if then == Then.FLOOD else patient)(scope, receive, send_to_server)
    except BaseException as error:
        raised = error
        raise
    finally:
        del lives[name]
        life.over(raised)


# Beside the middleware: how the tests look into the process.


async def health(request: Request) -> Response:
    return PlainTextResponse("fine")


async def release(request: Request) -> Response:
    lives[request.path_params["name"]].released.set()
    return PlainTextResponse("released")


async def state(request: Request) -> Response:
    """What there is of the middleware's while it has nothing to do: tasks and timers."""
    gc.collect()
    objects = gc.get_objects()
    tasks = [
        task.__qualname__
        for task in objects
        if type(task) is CoroutineType
        and task.cr_frame is not None
        and task.cr_code.co_filename.startswith(PACKAGE)
    ]
    timers = [repr(timer) for timer in objects if type(timer) is LazyTimer and timer._timer]
    return JSONResponse({"left": tasks + timers, "requests": list(lives)})


aside: Final = Starlette(
    routes=[
        Route("/health", health),
        Route("/state", state),
        Route("/release/{name}", release),
    ]
)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http" and scope["path"].count("/") > 1 and "/release" not in scope["path"]:
        await batched(scope, receive, send)
    else:
        await aside(scope, receive, send)
