"""The app that the servers run.

It records for the tests what happens to each request. Each record is one line of JSON in a named
pipe, so that none of them has to pass through the server.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
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
from tests.servers.matrix.phases import LAST, TICK, Action, Phase, chunks_after, chunks_before

PIPE: Final = os.open(os.environ["SERVER_MATRIX_PIPE"], os.O_WRONLY)
PACKAGE: Final = str(Path(sse_batching.__file__).parent)

# The framework has to close its generators. A garbage collection would close them as well, and hide
# that the framework does not.
gc.disable()


class TrackedRequest:
    """One request, and the records about it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.released = anyio.Event()
        self._written = anyio.Event()
        self._taken = 0

    def record(self, what: str, **details: Any) -> None:
        line = json.dumps({"request": self.name, "what": what, **details})
        os.write(PIPE, line.encode() + b"\n")

    def watch_token(self) -> None:
        token = self.token = current_token()
        self.registration = token.register(
            lambda: self.record("cancelled", reason=token.reason, message=token.message)
        )

    async def write(self, send: Send, message: Message) -> None:
        """Pass a message of the middleware on to the server."""
        await send(message)
        self._taken += len(message.get("body", b""))
        self._written.set()
        self._written = anyio.Event()

    async def write_waits(self, size: int) -> bool:
        """Return True if the server has not taken this many bytes after 50 ms.

        On the loopback interface only a full buffer makes a write take this long.
        """
        with anyio.move_on_after(0.05):
            while self._taken < size:
                await self._written.wait()
        return self._taken < size

    def ended(self, raised: BaseException | None) -> None:
        self.registration.unregister()
        callbacks = len(self.token._callbacks)
        self.record("ended", callbacks=callbacks, raised=repr(raised) if raised else None)


tracked_requests: Final[dict[str, TrackedRequest]] = {}
tracked_request: Final[ContextVar[TrackedRequest]] = ContextVar("tracked_request")


async def agent(tracked: TrackedRequest, phase: Phase, action: Action) -> AsyncIterator[bytes]:
    try:
        for chunk in chunks_before(phase):
            yield chunk
        if phase is not Phase.AFTER_END:
            tracked.record("reached")
            for chunk in chunks_after(phase, action):
                yield chunk
            if action is Action.FLOOD:
                tracked.record("all sent")
            else:
                await tracked.released.wait()
                while True:
                    yield TICK
                    await anyio.sleep(0.005)
    finally:
        tracked.record("closed")


class ResponseEndingDuringWrite(Response):
    """A response that ends while an earlier write still waits for the client.

    On a server whose writes never wait, it ends after more bytes than all buffers hold.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tracked = tracked_request.get()
        current_stream().configure(max_delay=0)  # so that each write is small
        sent = 0

        async def send_body(body: bytes, *, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": body, "more_body": more})

        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            for chunk in [
                *chunks_before(Phase.FINAL_WRITE),
                *chunks_after(Phase.FINAL_WRITE, Action.WAIT),
            ]:
                await send_body(chunk)
                sent += len(chunk)
                if await tracked.write_waits(sent):
                    break
            tracked.record("reached")
            await send_body(LAST, more=False)
        finally:
            tracked.record("closed")


async def stream(request: Request) -> Response:
    """Ask for the token, and ignore it. The framework or the middleware has to end the stream."""
    tracked = tracked_request.get()
    phase, action = Phase(request.path_params["phase"]), Action(request.path_params["action"])
    tracked.watch_token()
    if phase is Phase.FINAL_WRITE:
        return ResponseEndingDuringWrite()
    if phase is Phase.BEFORE_START and action is Action.WAIT:
        tracked.record("reached")
        try:
            await cancelled_or_released(tracked)
        finally:
            tracked.record("closed")
    work = agent(tracked, phase, action)
    waits = phase is Phase.AFTER_END and action is Action.WAIT
    after = BackgroundTask(wait_for_release, tracked) if waits else None
    return StreamingResponse(work, media_type="text/event-stream", background=after)


async def cancelled_or_released(tracked: TrackedRequest) -> None:
    """Wait until the token is cancelled, or the test releases the request."""
    async with anyio.create_task_group() as tasks:

        async def first(wait: Callable[[], Awaitable[object]]) -> None:
            await wait()
            tasks.cancel_scope.cancel()

        tasks.start_soon(first, tracked.released.wait)
        tasks.start_soon(first, tracked.token.wait_async)


async def wait_for_release(tracked: TrackedRequest) -> None:
    """Work after the end of the response, when the token can still be cancelled."""
    tracked.record("reached")
    await tracked.released.wait()


async def never_awaiting(request: Request) -> Response:
    """Stream from an agent that never yields to the event loop by itself."""
    tracked = tracked_request.get()
    tracked.watch_token()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"data: 0\n\n"
        finally:
            tracked.record("closed")

    return StreamingResponse(endless(), media_type="text/event-stream")


async def ticking(request: Request) -> Response:
    """Stream from an agent that sends an event every 5 ms, until the request is released."""
    tracked = tracked_request.get()
    tracked.watch_token()

    async def ticks() -> AsyncIterator[bytes]:
        try:
            for number in itertools.count():
                yield b"data: %d\n\n" % number
                tracked.record("tick", number=number)
                if tracked.released.is_set():
                    return
                await anyio.sleep(0.005)
        finally:
            tracked.record("closed")

    return StreamingResponse(ticks(), media_type="text/event-stream")


def on_close(report: StreamReport) -> None:
    tracked_request.get().record("reported", outcome=report.outcome, reason=report.reason)


streams: Final = Starlette(
    routes=[
        Route("/never-awaiting/{name}", never_awaiting),
        Route("/ticking/{name}", ticking),
        Route("/{phase}/{action}/{name}", stream),
    ]
)
default_timeout: Final = SSEBatchingMiddleware(streams, on_close=on_close, grace_period=0.05)
short_timeout: Final = SSEBatchingMiddleware(
    streams, on_close=on_close, grace_period=0.05, send_timeout=0.25
)


async def batched(scope: Scope, receive: Receive, send: Send) -> None:
    """Call the middleware, and record that it has returned and what it has raised."""
    *_, action, name = scope["path"].split("/")
    tracked = tracked_requests[name] = TrackedRequest(name)
    tracked_request.set(tracked)
    raised: BaseException | None = None

    def send_to_server(message: Message) -> Awaitable[None]:
        return tracked.write(send, message)

    try:
        middleware = short_timeout if action == Action.FLOOD else default_timeout
        await middleware(scope, receive, send_to_server)
    except BaseException as error:
        raised = error
        raise
    finally:
        del tracked_requests[name]
        tracked.ended(raised)


# Endpoints outside of the middleware, through which the tests look into the process.


async def health(request: Request) -> Response:
    return PlainTextResponse("fine")


async def release(request: Request) -> Response:
    if tracked := tracked_requests.get(request.path_params["name"]):
        tracked.released.set()
    return PlainTextResponse("released")


async def state(request: Request) -> Response:
    """Return the tasks and timers of the middleware that exist now."""
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
    return JSONResponse({"left": tasks + timers, "requests": list(tracked_requests)})


control_app: Final = Starlette(
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
        await control_app(scope, receive, send)
