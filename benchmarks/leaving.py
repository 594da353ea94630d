"""App whose streams record when they are told that their client has left."""

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

told: Final[dict[str, dict[str, int]]] = {"callback": {}, "thread": {}}
"""Nanoseconds by stream, at which its callback was called and its thread woke up."""


def wait(token: CancellationToken, name: str) -> None:
    token.wait()
    told["thread"][name] = time.monotonic_ns()


async def events(token: CancellationToken, rate: float, phase: float) -> AsyncIterator[bytes]:
    await asyncio.sleep(phase)
    while not token.cancelled:
        yield EVENT % METER.stamp()
        await asyncio.sleep(1 / rate)


async def stream(request: Request) -> Response:
    """Stream events. With `thread=1` in the query, a thread waits for the token, too."""
    query = request.query_params
    token, name = current_token(), query["name"]
    token.register(lambda: told["callback"].setdefault(name, time.monotonic_ns()))
    if "thread" in query:
        threading.Thread(target=wait, args=(token, name), daemon=True).start()
    chunks = events(token, float(query["rate"]), float(query["phase"]))
    return StreamingResponse(chunks, media_type=EVENT_STREAM)


async def report(request: Request) -> JSONResponse:
    return JSONResponse(told)


def app() -> ASGIApp:
    return SSEBatchingMiddleware(
        Starlette(routes=[Route("/stream", stream), Route("/told", report)])
    )
