"""ASGI apps for the tests, and helpers that send them a request."""

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
    """Return the message that starts a response."""
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", content_type), *headers],
    }


def chunk(body: bytes | bytearray | memoryview) -> Message:
    """Return a message with a part of the body, which more parts follow."""
    return {"type": "http.response.body", "body": body, "more_body": True}


def last(body: bytes | bytearray | memoryview = b"") -> Message:
    """Return the message that ends the body."""
    return {"type": "http.response.body", "body": body, "more_body": False}


def sending(*messages: Message) -> ASGIApp:
    """Return an app that sends these messages and ends."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def streaming(work: Callable[[Emit], Awaitable[None]], *headers: tuple[bytes, bytes]) -> ASGIApp:
    """Return an app that streams what `work` emits. It never calls `receive`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(EVENT_STREAM, *headers))
        await work(lambda body: send(chunk(body)))
        await send(last())

    return app


def emitting(*steps: bytes | float) -> ASGIApp:
    """Return an app that streams these chunks, and pauses for these numbers of seconds."""

    async def work(emit: Emit) -> None:
        for step in steps:
            if isinstance(step, bytes):
                await emit(step)
            else:
                await advance(step)

    return streaming(work)


async def converse(app: ASGIApp, **conversation: Any) -> Conversation:
    """Call an app that ends by itself, and return the conversation. Raise the app's error."""
    async with Conversation(app, **conversation) as talk:
        await talk.ended()
    if talk.error is not None:
        raise talk.error
    return talk


def times(talk: Conversation) -> list[tuple[float, bytes]]:
    """Return the time and the bytes of each part of the body, without the end of the body.

    Times are rounded to a nanosecond. The clock of asyncio starts at 1000, and sums of times that
    are not binary fractions are not exact.
    """
    return [
        (round(sent.at, 9), sent.message["body"])
        for sent in talk.sent
        if sent.message["type"] == "http.response.body" and sent.message["more_body"]
    ]


def ends_at_once(awaitable: Awaitable[object]) -> bool:
    """Run the awaitable until it suspends or ends. Return True if it has ended.

    A suspended awaitable is never resumed.
    """
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration:
        return True
    return False
