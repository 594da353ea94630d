"""Middleware that does nothing, and middleware that does the least that ours has to do."""

from __future__ import annotations

from collections.abc import Awaitable
from contextvars import ContextVar
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Empty:
    """Middleware that only calls the app."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


current: Final[ContextVar[Send]] = ContextVar("current")


class Least:
    """Middleware that sets a context variable and looks at each message.

    A middleware has to do both to be found by `current_token()`, and to find out whether the
    response streams.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        def look(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                for name, value in message["headers"]:
                    if name == b"content-type" and value == b"text/event-stream":
                        raise NotImplementedError
            return send(message)

        before = current.set(look)
        scope["current"] = look
        try:
            await self.app(scope, receive, look)
        finally:
            del scope["current"]
            current.reset(before)
