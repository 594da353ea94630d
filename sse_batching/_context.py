"""The stream of the request that is being served, for the code that serves it."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from starlette.requests import HTTPConnection

from ._exchange import Exchange
from ._typing import SCOPE_KEY
from .cancellation import CancellationToken

current_exchange: ContextVar[Exchange] = ContextVar("sse_batching.exchange")


class Stream:
    """The stream of one request, for the code that serves it.

    There is one for every HTTP request, whether or not its response turns out to be a stream. All
    but `token` and `id` are for the event loop that serves the request.
    """

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    @property
    def id(self) -> str:
        """128 random bits as 32 hexadecimal digits. The same in the report and in the log."""
        return self._exchange.id

    @property
    def token(self) -> CancellationToken:
        """The cancellation token of the request: reading it is asking for it (`current_token`)."""
        return self._exchange.token

    async def flush(self) -> None:
        """Send what is buffered now, and return when the server has taken it.

        Nothing happens if the response is not batched, has not started or has ended. Raises
        `ClientDisconnected` when the client is gone. Cancelling the wait takes nothing back.
        """
        await self._exchange.flush()

    def configure(self, *, max_delay: float | None = None, enabled: bool | None = None) -> None:
        """Change the batching of this response, from the next chunk on. None: leave as it is.

        `enabled=False`: each chunk is delivered, by itself, before `send` returns. Disconnects are
        noticed all the same. A bad value raises as it does for the middleware.
        """
        self._exchange.configure(max_delay, enabled)


def current_stream() -> Stream:
    """The stream of the request that is being served.

    Found by a context variable: reaches every task that the app starts, and the threads of
    `run_in_threadpool` and `asyncio.to_thread`. Raises `LookupError` outside of a request that
    goes through the middleware.
    """
    return Stream(_current())


def current_token() -> CancellationToken:
    """The cancellation token of the request that is being served.

    Whoever asks gets the grace period: the app sees `http.disconnect` only when it is over
    (`SSEBatchingMiddleware`, `grace_period`). One that never asks sees it at once.

    Safe from any thread that the context variable reaches. Raises `LookupError` outside of a
    request that goes through the middleware.
    """
    return _current().token


def get_token(scope_or_request: Mapping[str, Any] | HTTPConnection) -> CancellationToken:
    """The same token as `current_token`, by the ASGI scope or a Starlette or FastAPI request.

    For code that the context variable does not reach, a thread of a pool of its own say. Raises
    `LookupError` if the request does not go through the middleware, or has ended.
    """
    scope = (
        scope_or_request.scope if isinstance(scope_or_request, HTTPConnection) else scope_or_request
    )
    exchange: Exchange | None = scope.get(SCOPE_KEY)
    if exchange is None:
        raise LookupError(
            f"no cancellation token in this scope: {scope.get('type')!r} {scope.get('path')!r} "
            "does not go through SSEBatchingMiddleware, or has ended"
        )
    return exchange.token


def _current() -> Exchange:
    exchange = current_exchange.get(None)
    if exchange is None:
        raise LookupError(
            "no request is being served through SSEBatchingMiddleware in this context"
        )
    return exchange
