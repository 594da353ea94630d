"""Code as users write it, for the type checker. Nothing here is ever executed.

Each `type: ignore` marks a mistake of a user. mypy reports a `type: ignore` that is not needed, so
each of them tests that the mistake is found.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any, assert_type

import asgiref.typing
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from sse_batching import (
    CancellationToken,
    CancelReason,
    ClientDisconnected,
    Registration,
    SSEBatchingMiddleware,
    Stream,
    StreamCancelled,
    StreamReport,
    current_stream,
    current_token,
    get_token,
)
from sse_batching.testing import Conversation


async def raw_app(scope: Scope, receive: Receive, send: Send) -> None: ...


async def strictly_typed_app(
    scope: asgiref.typing.Scope,
    receive: asgiref.typing.ASGIReceiveCallable,
    send: asgiref.typing.ASGISendCallable,
) -> None: ...


class Agent:
    def interrupt(self, message: str) -> None: ...


# The middleware around an app of each kind.


def with_starlette() -> None:
    app = Starlette(middleware=[Middleware(SSEBatchingMiddleware, max_batch_bytes=4096)])
    app.add_middleware(SSEBatchingMiddleware)
    app.add_middleware(SSEBatchingMiddleware, max_delay=0.1)
    app.add_middleware(SSEBatchingMiddleware, max_dely=0.1)  # type: ignore[call-arg]
    app.add_middleware(SSEBatchingMiddleware, max_delay="0.1")  # type: ignore[arg-type]
    SSEBatchingMiddleware(app)


def with_fastapi() -> None:
    app = FastAPI()
    app.add_middleware(SSEBatchingMiddleware)
    app.add_middleware(SSEBatchingMiddleware, max_delay=0, send_timeout=None)
    app.add_middleware(SSEBatchingMiddleware, send_timeout="never")  # type: ignore[arg-type]
    SSEBatchingMiddleware(app, media_types=["text/event-stream", "application/x-ndjson"])


def with_any_app() -> None:
    SSEBatchingMiddleware(SSEBatchingMiddleware(raw_app))
    SSEBatchingMiddleware(strictly_typed_app)
    SSEBatchingMiddleware()  # type: ignore[call-arg]
    SSEBatchingMiddleware("app")  # type: ignore[arg-type]
    SSEBatchingMiddleware(raw_app, 0.1)  # type: ignore[call-arg]
    SSEBatchingMiddleware(raw_app, max_batch_bytes=1.5)  # type: ignore[arg-type]


# Options that are functions.


def keep(report: StreamReport) -> None:
    assert_type(report.reason, CancelReason | None)
    assert_type(report.recorded, bytes)
    assert_type(report.time_to_first_chunk, float | None)
    if report.outcome == "incomplete":
        print(report.stream_id, report.bytes_undelivered)
    if report.outcome == "imcomplete":  # type: ignore[comparison-overlap]
        print("never")
    report.chunks = 0  # type: ignore[misc]


async def keep_in_database(report: StreamReport) -> None: ...


def keep_two(report: StreamReport, more: str) -> None: ...


def only_chat(scope: Scope) -> bool:
    return bool(scope["path"] == "/chat")


def with_functions() -> None:
    SSEBatchingMiddleware(raw_app, on_close=keep, enabled=only_chat)
    SSEBatchingMiddleware(raw_app, on_close=keep_in_database)
    SSEBatchingMiddleware(raw_app, on_close=lambda report: print(report))
    SSEBatchingMiddleware(raw_app, on_close=keep_two)  # type: ignore[arg-type]
    SSEBatchingMiddleware(raw_app, enabled=True)  # type: ignore[arg-type]


# The token.


def wire_up(agent: Agent, task: asyncio.Task[None], event: threading.Event) -> None:
    token = CancellationToken()
    assert_type(token.register(agent.interrupt, "SSE client disconnected"), Registration)
    token.register(task.cancel)
    token.register(task.cancel, msg="SSE client disconnected")
    token.register(event.set)
    token.register(agent.interrupt)  # type: ignore[call-arg]
    token.register(agent.interrupt, 5)  # type: ignore[arg-type]
    token.register("interrupt")  # type: ignore[arg-type]
    with token.register(event.set) as registration:
        assert_type(registration.unregister(), bool)


def look_at(token: CancellationToken) -> None:
    assert_type(token.cancelled, bool)
    assert_type(token.reason, CancelReason | None)
    assert_type(token.message, str | None)
    assert_type(token.error, BaseException | None)
    assert_type(token.wait(0.5), bool)
    assert_type(token.cancel(), bool)
    token.cancel(CancelReason.DEADLINE, "too slow", TimeoutError())
    token.cancel(reason=CancelReason.REQUESTED, message="stop button", error=None)
    token.cancel("deadline")  # type: ignore[arg-type]
    token.raise_if_cancelled()


async def chat(request: Request) -> StreamingResponse:
    token = get_token(request)
    assert_type(token, CancellationToken)
    assert_type(current_token(), CancellationToken)
    get_token("scope")  # type: ignore[arg-type]

    async def answer() -> AsyncIterator[str]:
        try:
            while not token.cancelled:
                yield "data: token\n\n"
            await token.wait_async()
        except StreamCancelled as cancelled:
            assert_type(cancelled.reason, CancelReason)

    return StreamingResponse(answer(), media_type="text/event-stream")


async def raw_chat(scope: Scope, receive: Receive, send: Send) -> None:
    assert_type(get_token(scope), CancellationToken)
    stream = current_stream()
    assert_type(stream, Stream)
    assert_type(stream.id, str)
    assert_type(stream.token, CancellationToken)
    stream.configure(max_delay=0.01, enabled=True)
    stream.configure(0.01)  # type: ignore[call-arg]
    stream.id = "mine"  # type: ignore[misc]
    try:
        await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
        await stream.flush()
    except ClientDisconnected as gone:
        assert_type(gone.reason, CancelReason)
        os_error: OSError = gone
        print(os_error)


# In tests of apps.


async def check(app: Any) -> None:
    async with Conversation(app, method="POST", body=[b"{}"]) as talk:
        await talk.until(lambda: len(talk.bodies) >= 3)
        talk.leave()
        await talk.ended()
    assert_type(talk.body, bytes)
