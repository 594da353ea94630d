"""The stream of the request that is being served, and its token, for the code that serves it."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from starlette.requests import HTTPConnection

from ._options import check_seconds
from ._request import ENDED, HAS_ENDED, SERVING, RequestContext
from ._types import SCOPE_KEY
from .cancellation import CancellationToken

current_request: Final[ContextVar[RequestContext]] = ContextVar("sse_batching.request")


class Stream:
    """The stream of one request, for the code that serves the request.

    Every HTTP request that goes through the middleware has one, whether or not its response turns
    out to be a stream. `id` and `token` are safe in any thread. `flush` and `configure` may be
    called only in the event loop that serves the request, by any task there, and do nothing after
    the end of the request.
    """

    __slots__ = ("_request", "_token")

    def __init__(self, request: RequestContext) -> None:
        self._request = request
        self._token: CancellationToken | None = None

    @property
    def id(self) -> str:
        """128 random bits as 32 hexadecimal digits. The same in the report and in the log."""
        return self._request.id

    @property
    def token(self) -> CancellationToken:
        """The cancellation token of the request. Reading this attribute asks for the token, and
        raises, as `current_token` does. Once read, the attribute stays the same token, also after
        the request."""
        if self._token is None:
            self._token = self._request.token(grace=True)
        return self._token

    async def flush(self) -> None:
        """Write the buffered batch now, and return when the server has taken it.

        Does nothing if the response is not batched, has not started or has ended. If the client is
        gone, `flush` raises `ClientDisconnected` or returns, as the app's `send` does then. If the
        server's `send` raises because of the app, `flush` raises the same exception. A cancelled
        wait takes nothing back: the batch is written.
        """
        exchange = self._request.exchange
        if exchange is not None and self._request.stage is SERVING:
            await exchange.flush()

    def configure(self, *, max_delay: float | None = None, enabled: bool | None = None) -> None:
        """Change the batching of this response, from the next chunk on. None leaves an option as it
        is.

        `max_delay` is in seconds. A shorter one also applies to the chunks that are waiting. With
        `enabled=False`, `send` returns only when its chunk is delivered, and merging ends for this
        response. A disconnect is noticed as before. Does nothing if the response is not batched. A
        wrong value raises `TypeError` or `ValueError`, as in the middleware.
        """
        if max_delay is not None:
            check_seconds("max_delay", max_delay)
        if enabled is not None and not isinstance(enabled, bool):
            raise TypeError(f"enabled must be True, False or None; got {enabled!r}")
        if self._request.stage is SERVING:
            self._request.make_exchange().configure(max_delay, enabled)


def current_stream() -> Stream:
    """Return the stream of the request that is being served.

    The stream is found by a context variable, which reaches every task that the app starts, and the
    threads of `run_in_threadpool` and `asyncio.to_thread`. Raises `LookupError` outside a request
    that goes through the middleware, and when that request has ended.
    """
    return Stream(_current())


def current_token() -> CancellationToken:
    """Return the cancellation token of the request that is being served.

    For an app that acts on the token. The call asks for the grace period: after the cancellation,
    the app sees `http.disconnect` only when `grace_period` is over (see `SSEBatchingMiddleware`),
    or when the app sends again and waits in `receive`. An app that never asks sees the disconnect
    at once. Code that does not act on the token, such as a log line or a metric, calls
    `observe_token`.

    Each call returns the same token. Safe in any thread that the context variable reaches. Raises
    `LookupError` outside a request that goes through the middleware, and when that request has
    ended. A token that was found before stays usable.
    """
    return _current().token(grace=True)


def get_token(scope_or_request: Mapping[str, Any] | HTTPConnection) -> CancellationToken:
    """Return the token that `current_token` returns, for an ASGI scope or a Starlette or FastAPI
    request.

    For code that the context variable does not reach, such as a thread of another pool, or that has
    the context of another request, such as a worker. A copy of the scope will do. A call asks for
    the grace period, as `current_token` does. Safe in any thread. Raises `LookupError` if the
    request does not go through the middleware, or has ended.
    """
    return _find(scope_or_request).token(grace=True)


def observe_token(
    scope_or_request: Mapping[str, Any] | HTTPConnection | None = None,
) -> CancellationToken:
    """Return the token of the request, and leave everything else as it is.

    For code that only looks on: a log line, a metric, work beside the response. The token is the
    one that `current_token` returns, or `get_token` with this scope or request, and is cancelled at
    the same moments. But the app sees `http.disconnect` at once, as an app that never asked for its
    token. If other code calls `current_token` or `get_token`, the app gets the grace period.

    Raises `LookupError` as `current_token` and `get_token` do.
    """
    request = _current() if scope_or_request is None else _find(scope_or_request)
    return request.token(grace=False)


# FastAPI passes the request to a dependency's parameter that is annotated as a connection, and
# refuses a union: `Depends(get_token)`. Type checkers read the annotations above.
get_token.__annotations__["scope_or_request"] = HTTPConnection
observe_token.__annotations__["scope_or_request"] = HTTPConnection


def _current() -> RequestContext:
    request = current_request.get(None)
    if request is None:
        raise LookupError(
            "no request is being served through SSEBatchingMiddleware in this context"
        )
    if request.stage is ENDED:
        raise LookupError(HAS_ENDED)
    return request


def _find(scope_or_request: Mapping[str, Any] | HTTPConnection) -> RequestContext:
    scope = (
        scope_or_request.scope if isinstance(scope_or_request, HTTPConnection) else scope_or_request
    )
    request: RequestContext | None = scope.get(SCOPE_KEY)
    if request is None or request.stage is ENDED:
        raise LookupError(
            f"no cancellation token in this scope: {scope.get('type')!r} {scope.get('path')!r} "
            "does not go through SSEBatchingMiddleware, or has ended"
        )
    return request
