"""An instance of the middleware inside of another one: which of the two batches a response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ._exchange import Exchange
from ._options import Options
from ._policy import ends_response, is_batched, takes_comments, with_header_list
from ._request import RequestContext
from ._sse import TAIL_LENGTH, at_event_boundary
from ._states import AWAITING, PASSING
from ._types import START, Message, Scope, Send


class InnerResponse:
    """One response on its way from an inner instance of the middleware to an outer one.

    The outer instance owns the request: its token, its `receive`, its end. It also decides about
    the response, because it sees the start of the response last, as the middlewares in between left
    it. If it lets the response pass, and the inner instance would batch it, the exchange of the
    request moves here: the response is batched with the inner options, inside of the middlewares in
    between.
    """

    __slots__ = (
        "_exchange",
        "_on_both",
        "_options",
        "_request",
        "_scope",
        "_send",
        "_start",
        "_step",
        "_tail",
    )

    def __init__(
        self,
        request: RequestContext,
        options: Options,
        scope: Scope,
        send: Send,
        on_both: Callable[[Options], None],
    ) -> None:
        """`request`: of the outer instance. `on_both` is called with the outer options if both
        instances would batch the response."""
        self._request = request
        self._options = options
        self._scope = scope
        self._send = send
        self._on_both = on_both
        self._start: Message = {}
        self._tail = b""  # of what was passed on before the decision
        self._exchange: Exchange | None = None  # once this instance batches the response
        self._step: Callable[[Message], Awaitable[None]] = self._before_start

    async def send(self, message: Message) -> None:
        """The `send` that the app is given."""
        await self._step(message)

    async def finish(self) -> None:
        """Write what is buffered: the app has ended, and the middlewares in between go on."""
        if self._exchange is not None:
            await self._exchange.write_rest()

    async def _before_start(self, message: Message) -> None:
        if message["type"] != START:
            await self._send(message)
            return
        start = with_header_list(message)
        # If the outer response has started already, this one is part of it: an app has called
        # another one, and collects what that one sends.
        if self._request.state is not AWAITING or not is_batched(
            self._scope, start, self._options.media_types
        ):
            self._step = self._send
            await self._send(start)
            return

        self._start = start
        self._step = self._undecided
        await self._undecided(start)

    async def _undecided(self, message: Message) -> None:
        """Pass a message on, and see what the outer instance makes of the response.

        A middleware in between may hold the start back, as `GZipMiddleware` does until it knows the
        first chunk.
        """
        await self._send(message)
        self._tail = (self._tail + bytes(message.get("body", b"")))[-TAIL_LENGTH:]
        if ends_response(message):
            self._step = self._send
        elif at_event_boundary(self._tail) or not takes_comments(self._start):
            self._decide()

    def _decide(self) -> None:
        """Batch the rest of the response or let it pass, if the outer instance has seen its
        start."""
        state = self._request.state
        if state is AWAITING:
            return
        self._step = self._send
        if state is PASSING:
            self._exchange = self._request.move_exchange(
                self._start, self._scope, self._send, self._options
            )
            if self._exchange is not None:
                self._step = self._exchange.send
        elif self._request.batches:
            self._on_both(self._request.options)
