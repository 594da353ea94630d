"""Process in which `benchmarks.instructions` counts: one small app, behind each middleware.

    valgrind --tool=callgrind --callgrind-out-file=FOLDER/%p python -m benchmarks.counted

Each rival serves `REQUESTS` requests in a fork of this process, and twice as many in another fork.
Start-up and imports are the same in both, so the difference of the two counts is the cost of
`REQUESTS` requests. Prints the ids of these processes as JSON.

This module imports little, because callgrind makes imports about fifty times slower.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from asgi_correlation_id import CorrelationIdMiddleware
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Scope, Send

from sse_batching import SSEBatchingMiddleware

from .least import Empty, Least

REQUESTS: Final = 200

BODY: Final = b'{"hello": "world"}'

HEADERS: Final = [
    (b"host", b"api.example.org"),
    (b"user-agent", b"Mozilla/5.0"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"origin", b"https://app.example.org"),
    (b"content-type", b"application/json"),
    (b"content-length", str(len(BODY)).encode()),
]
"""Headers of each request. CORS and GZip do nothing without `origin` and `accept-encoding`."""


# A server that does nothing.


def scope(method: str) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": HEADERS.copy(),
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
        "state": {},
    }


async def receive() -> Message:
    return {"type": "http.request", "body": BODY, "more_body": False}


async def send(message: Message) -> None:
    """Take a message, and do nothing."""


# The app.


async def hello(request: Request) -> JSONResponse:
    return JSONResponse({"hello": "world"})


async def echo(request: Request) -> JSONResponse:
    """Read the body of the request, as FastAPI does for a parameter that is a model."""
    return JSONResponse(await request.json())


def starlette(middleware: Any = None, **options: Any) -> Starlette:
    app = Starlette(
        routes=[Route("/", hello, methods=["GET"]), Route("/", echo, methods=["POST"])],
    )
    if middleware is not None:
        app.add_middleware(middleware, **options)
    return app


# The rivals.


class EmptyDispatch(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


class Rival(NamedTuple):
    title: str
    app: Callable[[], ASGIApp]
    """Returns the app behind the middleware."""


RIVALS: Final[Mapping[str, Rival]] = {
    "none": Rival("no middleware", starlette),
    "empty": Rival("an empty middleware", lambda: starlette(Empty)),
    "least": Rival(
        "a context variable, and a look at each message",
        lambda: starlette(Least),
    ),
    "ours": Rival("`SSEBatchingMiddleware`", lambda: starlette(SSEBatchingMiddleware)),
    "cors": Rival(
        "Starlette's `CORSMiddleware`, which adds its headers",
        # `["*"]` costs least: a list of origins takes 1,400 instructions more.
        lambda: starlette(CORSMiddleware, allow_origins=["*"]),
    ),
    "correlation-id": Rival(
        "asgi-correlation-id, which makes an id", lambda: starlette(CorrelationIdMiddleware)
    ),
    "gzip": Rival(
        "Starlette's `GZipMiddleware`, body too small to compress",
        lambda: starlette(GZipMiddleware),
    ),
    "base": Rival(
        "Starlette's `BaseHTTPMiddleware`, empty `dispatch`", lambda: starlette(EmptyDispatch)
    ),
}

METHODS: Final[Mapping[str, tuple[str, ...]]] = {
    "GET": tuple(RIVALS),
    "POST": ("none", "ours", "cors"),
}
"""Rivals of each method. The app reads the body of a POST, and no body of a GET."""


# The counting.


async def serve(app: ASGIApp, method: str, times: int) -> None:
    """Serve one request after another, each in a task of its own, as servers do."""
    for _ in range(times):
        await asyncio.create_task(serve_one(app, method, send))


async def serve_one(app: ASGIApp, method: str, send: Send) -> None:
    await app(scope(method), receive, send)


async def answer(app: ASGIApp, method: str) -> list[Message]:
    """Return the messages of one response."""
    messages: list[Message] = []

    async def keep(message: Message) -> None:
        messages.append(message)

    await serve_one(app, method, keep)
    return messages


def run(rival: str, method: str, times: int) -> None:
    app = RIVALS[rival].app()

    async def requests() -> None:
        first, *_ = await answer(app, method)
        if first["status"] != 200:
            raise RuntimeError(f"{rival} answers {first!r}")
        await serve(app, method, times)

    asyncio.run(requests())


def in_fork(rival: str, method: str, times: int) -> int:
    """Serve the requests in a fork of this process. Return its process id."""
    if pid := os.fork():
        _, status = os.waitpid(pid, 0)
        if status:
            raise RuntimeError(f"{rival}, {method}: counting failed")
        return pid
    run(rival, method, times)  # where that raises, the fork ends with the traceback
    os._exit(0)


def main() -> None:
    gc.disable()  # a collection would be in one count, and not in the other
    processes = {
        method: {
            rival: [in_fork(rival, method, times) for times in (REQUESTS, 2 * REQUESTS)]
            for rival in rivals
        }
        for method, rivals in METHODS.items()
    }
    print(json.dumps(processes))


if __name__ == "__main__":
    main()
