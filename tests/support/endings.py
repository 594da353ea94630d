"""The causes that end a stream early, and an app and a server to provoke them with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import trio
from starlette.types import ASGIApp, Receive, Scope, Send

from sse_batching import CancellationToken, CancelReason, current_token
from sse_batching.testing import Conversation
from tests.support.apps import chunk, last, start
from tests.support.virtual_time import advance

SEND_TIMEOUT: Final = 2.0
"""The `send_timeout` that the tests give the middleware."""

RESET: Final = ConnectionResetError("connection reset by peer")


@dataclass(frozen=True)
class Cause:
    """Something that ends a stream, and what the token says afterwards."""

    name: str
    provoke: Callable[[Conversation], None]
    reason: CancelReason
    message: str
    error: BaseException | None = None

    def __str__(self) -> str:
        return self.name


LEFT: Final = Cause(
    "left", Conversation.leave, CancelReason.CLIENT_DISCONNECTED, "SSE client disconnected"
)
FAILED: Final = Cause(
    "failed",
    lambda talk: talk.fail_writes(RESET),
    CancelReason.SEND_FAILED,
    "SSE client disconnected",
    RESET,
)
STALLED: Final = Cause(
    "stalled", Conversation.stall, CancelReason.SEND_TIMEOUT, "SSE client does not read any more"
)
CANCELLED: Final = Cause(
    "cancelled",
    Conversation.cancel,
    CancelReason.SERVER_SHUTDOWN,
    "request cancelled by the server",
)

CAUSES: Final = [LEFT, FAILED, STALLED, CANCELLED]


class Ticking:
    """An app that sends an event every 0.25 seconds, for ten minutes unless it is stopped."""

    def __init__(self, *, asks: bool = True) -> None:
        self._asks = asks
        self.token: CancellationToken | None = None
        self.cancellations: list[tuple[CancelReason | None, str | None, BaseException | None]] = []
        self.raised: list[BaseException] = []
        """The errors that `send` raised. The app ends with the third."""
        self.stopped_at: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._asks:
            token = self.token = current_token()
            token.register(
                lambda: self.cancellations.append((token.reason, token.message, token.error))
            )
        await send(start())
        for number in range(2400):
            try:
                await send(chunk(b"data: %d\n\n" % number))
            except OSError as error:
                self.raised.append(error)
                if len(self.raised) == 3:
                    raise
            await advance(0.25)
        await send(last())


class Cancellable(Protocol):
    """The part of `asyncio.Task` that `AsTask` uses."""

    def cancel(self) -> object: ...

    def cancelled(self) -> bool: ...

    def cancelling(self) -> int: ...

    def exception(self) -> BaseException | None: ...


class InScope:
    """The same for trio, where only a scope can cancel a task."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.error: BaseException | None = None

    def cancel(self) -> None:
        self.scope.cancel()

    def cancelled(self) -> bool:
        return self.scope.cancelled_caught

    def cancelling(self) -> int:
        return int(self.scope.cancel_called)

    def exception(self) -> BaseException | None:
        return self.error


class AsTask:
    """A server that runs an app in a task of its own, which a test cancels as servers do."""

    task: Cancellable

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def run() -> None:
            await self._app(scope, receive, send)

        if trio.lowlevel.in_trio_task():
            task = self.task = InScope()
            with task.scope:
                try:
                    await run()
                except Exception as error:  # noqa: BLE001 - `exception` returns it
                    task.error = error
        else:
            self.task = asyncio.create_task(run())
            await asyncio.wait([self.task])
