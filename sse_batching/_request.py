"""What every request pays for: to be found by `current_token()`, and one look at its messages."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Awaitable
from typing import Final

from asgiref.sync import markcoroutinefunction

from ._exchange import Exchange
from ._finish import finish
from ._loop import Loop
from ._options import Options
from ._policy import ends_response, is_batched, with_header_list
from ._receiver import Receiver
from ._states import AWAITING, COMPLETED, PASSING
from ._types import BODY, START, Message, Receive, Scope, Send
from .cancellation import CancellationToken

_lock: Final = threading.Lock()


class RequestContext:
    """The front of one request. Most requests do not stream, and need nothing else.

    The exchange is made when the response turns out to be a stream, or when somebody asks for the
    token, `flush` or `configure`. Until then this object owns the state of the request; from then
    on the exchange does.

    `id` and `token` are safe in any thread. Everything else, the exchange included, belongs to the
    thread of the event loop.
    """

    # Slots: CPython 3.11 reads a default from the class ten times slower.
    __slots__ = (
        "_began",
        "_id",
        "_loop",
        "_options",
        "_receiver",
        "_scope",
        "_server_receive",
        "_server_send",
        "_state",
        "_token",
        "ended",
        "exchange",
        "task",
    )

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, options: Options, loop: Loop
    ) -> None:
        self._scope = scope
        self._server_receive = receive
        self._server_send = send
        self._options = options
        self._loop = loop
        self._began = loop.time()
        self.task = loop.current_task()
        """The task in which the server runs the app, as `Loop.app_task` takes it."""
        self._state = AWAITING
        self.ended = False
        """True once the app has ended, and its exchange is finished."""
        self.exchange: Exchange | None = None
        """None until the request streams, or is asked for its token."""
        self._receiver: Receiver | None = None
        self._token: CancellationToken | None = None
        self._id: str | None = None

    # For the app. `send` is a plain function that returns the server's awaitable, which saves a
    # coroutine for each message. The mark is for code that asks whether `send` is a coroutine
    # function.

    async def receive(self) -> Message:
        """The `receive` that the app is given."""
        try:
            return await self.receiver.receive()
        except BaseException as error:
            if self.exchange is not None:
                self.exchange.receive_failed(error)
            raise

    @markcoroutinefunction
    def send(self, message: Message) -> Awaitable[None]:
        """The `send` that the app is given."""
        exchange = self.exchange
        if exchange is not None:
            return exchange.send(message)
        if self._state is AWAITING:
            if message["type"] == START:
                if type(message.get("headers")) is not list:
                    message = with_header_list(message)
                if is_batched(self._scope, message, self._options.media_types):
                    return self._start(message)
                self._state = PASSING
        # `ends_response` inlined for a body. The state changes before the write, because the server
        # may say `http.disconnect` during the last write.
        elif message["type"] == BODY:
            if not message.get("more_body", False):
                self._state = COMPLETED
        elif ends_response(message):
            self._state = COMPLETED
        return self._server_send(message)

    def _start(self, message: Message) -> Awaitable[None]:
        if self._loop.in_loop():
            return self.make_exchange().start(message)
        return self._start_in_loop(message)

    async def _start_in_loop(self, message: Message) -> None:
        """Start the response in the event loop. Needed where asgiref's `async_to_sync` calls `send`
        in a thread, and awaits the result in the event loop."""
        await self.make_exchange().start(message)

    # For the code that serves the request. See `Stream`.

    @property
    def id(self) -> str:
        """128 random bits in hexadecimal digits."""
        if self._id is None:
            with _lock:
                self._id = self._id or secrets.token_hex(16)
        return self._id

    @property
    def token(self) -> CancellationToken:
        """The token of the request. Reading this attribute asks for the token."""
        if self._token is None:
            with _lock:
                token = self._token = self._token or CancellationToken()
            exchange = self.exchange
            if exchange is not None and exchange.cause is not None:
                token.cancel(*exchange.cause[:3])
            if not self.ended:
                self._loop.run_in_loop(self._token_requested)
        return self._token

    def _token_requested(self) -> None:
        if self._token is not None and not self.ended:
            self.make_exchange().watch_for_token(self._token)

    # Parts made on demand.

    @property
    def receiver(self) -> Receiver:
        """The only caller of the server's `receive`."""
        if self._receiver is None:
            self._receiver = Receiver(self._server_receive, self._loop)
        return self._receiver

    def make_exchange(self) -> Exchange:
        """Return the exchange. It is made now if there is none."""
        if self.exchange is None:
            self.exchange = Exchange(
                self._scope,
                self._server_send,
                self.receiver,
                self._options,
                self._loop,
                self._loop.app_task(self.task),
                id=self.id,
                began=self._began,
                state=self._state,
            )
        return self.exchange

    async def finish(self, error: BaseException | None) -> BaseException | None:
        """End a request that has an exchange. See `_finish.finish`."""
        try:
            return await finish(self.make_exchange(), error)
        finally:
            self.release()

    def release(self) -> None:
        """Drop what refers to the app: the request is over.

        This object may live longer, in a context that the server has copied for a timer of its own
        (uvicorn's keep-alive timer). A later caller of `token` gets a new token, cancelled if the
        request ended early.
        """
        self._token = None
        self._scope = {}
        self.task = None
        if self.exchange is not None:
            self.exchange.release()
