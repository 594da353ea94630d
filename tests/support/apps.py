"""ASGI apps for the tests, and how to talk to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sse_batching.testing import Conversation
from tests.support.virtual_time import advance

Emit: TypeAlias = Callable[[bytes], Awaitable[None]]

EVENT_STREAM: Final = b"text/event-stream"


def start(
    content_type: bytes = EVENT_STREAM,
    *headers: tuple[bytes, bytes],
    status: int = 200,
) -> Message:
    """The start of a response."""
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", content_type), *headers],
    }


def chunk(body: bytes | bytearray | memoryview) -> Message:
    """A part of the body, with more to come."""
    return {"type": "http.response.body", "body": body, "more_body": True}


def last(body: bytes | bytearray | memoryview = b"") -> Message:
    """The end of the body."""
    return {"type": "http.response.body", "body": body, "more_body": False}


def sending(*messages: Message) -> ASGIApp:
    """An app that sends these messages and ends."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def streaming(work: Callable[[Emit], Awaitable[None]], *headers: tuple[bytes, bytes]) -> ASGIApp:
    """An app that streams what `work` emits. It never looks into `receive`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(EVENT_STREAM, *headers))
        await work(lambda body: send(chunk(body)))
        await send(last())

    return app


def emitting(*steps: bytes | float) -> ASGIApp:
    """An app that streams these chunks, and pauses for these seconds."""

    async def work(emit: Emit) -> None:
        for step in steps:
            if isinstance(step, bytes):
                await emit(step)
            else:
                await advance(step)

    return streaming(work)


async def converse(app: ASGIApp, **conversation: Any) -> Conversation:
    """The whole conversation with an app that comes to its end by itself. Raises what it raises."""
    async with Conversation(app, **conversation) as talk:
        await talk.ended()
    if talk.error is not None:
        raise talk.error
    return talk


def times(talk: Conversation) -> list[tuple[float, bytes]]:
    """When each part of the body was written, and what was in it; not the end of the body.

    Rounded: tests share trio's clock, and one may leave on it what is no binary fraction.
    """
    return [
        (round(sent.at, 9), sent.message["body"])
        for sent in talk.sent
        if sent.message["type"] == "http.response.body" and sent.message["more_body"]
    ]


def ends_at_once(awaitable: Awaitable[object]) -> bool:
    """Run it as `await` would; False if it gives other tasks a turn, and then it is given up."""
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration:
        return True
    return False
