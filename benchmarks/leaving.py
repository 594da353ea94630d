"""An app whose streams take down when they heard that their client has left."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from sse_batching import CancellationToken, SSEBatchingMiddleware, current_token

from .apps import EVENT, EVENT_STREAM
from .meter import METER

heard: Final[dict[str, dict[str, int]]] = {"callback": {}, "thread": {}}
"""By stream, when its callback was called in the event loop, and when its thread woke up."""


def wait(token: CancellationToken, name: str) -> None:
    token.wait()
    heard["thread"][name] = time.monotonic_ns()


async def events(token: CancellationToken, rate: float, phase: float) -> AsyncIterator[bytes]:
    await asyncio.sleep(phase)
    while not token.cancelled:
        yield EVENT % METER.stamp()
        await asyncio.sleep(1 / rate)


async def stream(request: Request) -> Response:
    """`?name=&rate=&phase=`, and `&thread=1` for one that a thread works for as well."""
    query = request.query_params
    token, name = current_token(), query["name"]
    token.register(lambda: heard["callback"].setdefault(name, time.monotonic_ns()))
    if "thread" in query:
        threading.Thread(target=wait, args=(token, name), daemon=True).start()
    chunks = events(token, float(query["rate"]), float(query["phase"]))
    return StreamingResponse(chunks, media_type=EVENT_STREAM)


async def report(request: Request) -> JSONResponse:
    return JSONResponse(heard)


def app() -> ASGIApp:
    return SSEBatchingMiddleware(
        Starlette(routes=[Route("/stream", stream), Route("/heard", report)])
    )
