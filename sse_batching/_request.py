"""What every request pays for: to be found by `current_token()`, and one look at its messages."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable
from enum import Enum, auto
from typing import Final, Self

from asgiref.sync import markcoroutinefunction

from ._exchange import Exchange
from ._finish import finish
from ._loop import Loop
from ._options import Options
from ._policy import ends_response, expects_continue, is_batched, with_header_list
from ._receiver import Receiver
from ._states import AWAITING, COMPLETED, PASSING, State
from ._types import BODY, START, Message, Receive, Scope, Send
from .cancellation import CancellationToken


class Stage(Enum):
    """How far the middleware has got with a request."""

    SERVING = auto()
    """The app runs."""
    CLOSING = auto()
    """The app has ended. `on_close` may still ask for the token and the stream, as may a task or a
    thread that outlives the app, but nothing is started for them any more."""
    ENDED = auto()
    """The middleware has returned. Nobody gets the token of this request any more."""


SERVING: Final = Stage.SERVING
CLOSING: Final = Stage.CLOSING
ENDED: Final = Stage.ENDED

HAS_ENDED: Final = (
    "the request in whose context this code runs has ended. Code that outlives a request, such as "
    "a worker that serves many, must be handed the token of each request that it works for: "
    "current_token() where that request is served, or get_token() with the request or its scope"
)


class EndedRequest:
    """What a pickled scope has in place of its request, whose token works in one process only."""

    stage = ENDED


class RequestContext:
    """The front of one request. Most requests do not stream, and need nothing else.

    The exchange is made when the response turns out to be a stream, or when somebody asks for the
    token, `flush` or `configure`. Until then this object owns the state of the request; from then
    on the exchange does.

    `id` and `token` are safe in any thread and in any signal handler. Everything else, the exchange
    included, belongs to the thread of the event loop.

    A copy, also a deep copy, is the object itself: middlewares copy the scope, in which this object
    is found (hypercorn's `ProxyFixMiddleware`). A pickled scope has an `EndedRequest` in its place.
    """

    # Slots: CPython 3.11 reads a default from the class ten times slower.
    __slots__ = (
        "__dict__",  # the id and the token, once somebody asks for them
        "_began",
        "_grace",
        "_loop",
        "_receiver",
        "_scope",
        "_sends_to",
        "_server_receive",
        "_server_send",
        "_state",
        "exchange",
        "options",
        "stage",
        "task",
    )

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, options: Options, loop: Loop
    ) -> None:
        self._scope = scope
        self._server_receive = receive
        self._server_send = send
        self.options = options
        """The options of the middleware that batches the response, or would."""
        self._loop = loop
        self._began = loop.time()
        self.task = loop.current_task()
        """The task in which the server runs the app, as `Loop.app_task` takes it."""
        self._state = AWAITING
        self.stage = SERVING
        self.exchange: Exchange | None = None
        """None until the request streams, or is asked for its token."""
        self._sends_to: Exchange | None = None  # the exchange, unless it was moved: `move_exchange`
        self._receiver: Receiver | None = None
        self._grace = False
        """True once the app has asked for its token, and not only observed it."""

    # For the app. `send` is a plain function that returns the server's awaitable, which saves a
    # coroutine for each message. The mark is for code that asks whether `send` is a coroutine
    # function.

    async def receive(self) -> Message:
        """The `receive` that the app is given."""
        try:
            return await self.receiver.receive()
        except GeneratorExit:
            raise  # a garbage collection closes this request, and no event loop runs
        except BaseException as error:
            if self.exchange is not None:
                self.exchange.receive_failed(error)
            raise

    @markcoroutinefunction
    def send(self, message: Message) -> Awaitable[None]:
        """The `send` that the app is given."""
        exchange = self._sends_to
        if exchange is not None:
            return exchange.send(message)
        if self._state is AWAITING:
            if message["type"] == START:
                if type(message.get("headers")) is not list:
                    message = with_header_list(message)
                if is_batched(self._scope, message, self.options.media_types):
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
            return self._make_exchange().start(message)
        return self._start_in_loop(message)

    async def _start_in_loop(self, message: Message) -> None:
        """Start the response in the event loop. Needed where asgiref's `async_to_sync` calls `send`
        in a thread, and awaits the result in the event loop."""
        await self.make_exchange().start(message)

    # For the code that serves the request. See `Stream`.

    @property
    def id(self) -> str:
        """128 random bits in hexadecimal digits."""
        found: str | None = self.__dict__.get("_id")
        return found or self.__dict__.setdefault("_id", secrets.token_hex(16))

    def token(self, *, grace: bool) -> CancellationToken:
        """Return the token of the request. `grace`: ask for the grace period as well.

        Raises `LookupError` once the request has ended.
        """
        if self.stage is ENDED:
            raise LookupError(HAS_ENDED)
        token: CancellationToken | None = self.__dict__.get("_token")
        if token is None or (grace and not self._grace):
            # Threads and signal handlers may race for the first token, and a handler must not wait
            # for a lock that its own thread holds. `setdefault` is one atomic step.
            token = self.__dict__.setdefault("_token", CancellationToken())
            self._grace = self._grace or grace
            self._pass_cause_to(token)
            self._loop.run_in_loop(self._token_requested)
        return token

    def _token_requested(self) -> None:
        token: CancellationToken | None = self.__dict__.get("_token")
        if token is None:
            return
        if self.stage is SERVING:
            self.make_exchange().watch_for_token(token, grace=self._grace)
        else:
            self._pass_cause_to(token)

    def _pass_cause_to(self, token: CancellationToken) -> None:
        """Cancel the token if the request has already ended early."""
        if self.exchange is not None and self.exchange.cause is not None:
            token.cancel(*self.exchange.cause[:3])

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    def __reduce__(self) -> tuple[type[EndedRequest], tuple[()]]:
        return EndedRequest, ()

    # Parts made on demand.

    @property
    def receiver(self) -> Receiver:
        """The only caller of the server's `receive`."""
        if self._receiver is None:
            self._receiver = Receiver(self._server_receive, self._loop)
        return self._receiver

    def make_exchange(self) -> Exchange:
        """Return the exchange, and make one if there is none."""
        if self.exchange is None and self._receiver is None and expects_continue(self._scope):
            self._receiver = Receiver(self._server_receive, self._loop, expects_continue=True)
        return self.exchange or self._make_exchange()

    def _make_exchange(self) -> Exchange:
        self.exchange = self._sends_to = Exchange(
            self._scope,
            self._server_send,
            self.receiver,
            self.options,
            self._loop,
            self._loop.app_task(self.task),
            id=self.id,
            began=self._began,
            state=self._state,
        )
        return self.exchange

    # For another instance of the middleware, inside of this one.

    @property
    def state(self) -> State:
        """Where the request stands."""
        return self._state if self.exchange is None else self.exchange.state

    @property
    def batches(self) -> bool:
        """True once the response has turned out to be batched."""
        return self.exchange is not None and self.exchange.batches

    def move_exchange(
        self, start: Message, scope: Scope, send: Send, options: Options
    ) -> Exchange | None:
        """Let the response be batched by an inner middleware, with its options, scope and `send`.

        Only for a response that this middleware lets pass, and whose `start` the server has. None
        if the request has ended early: nothing is batched for a client that has left.
        """
        exchange = self.make_exchange()
        if exchange.cause is not None:
            return None
        self.options = options
        # What the inner middleware writes comes through `send` of this object, and passes.
        self._sends_to = None
        self._state = PASSING
        exchange.continue_inside(start, scope, send, options)
        return exchange

    # The end.

    async def finish(self, error: BaseException | None) -> BaseException | None:
        """End a request that has an exchange. See `_finish.finish`."""
        self.stage = CLOSING
        try:
            return await finish(self.make_exchange(), error)
        finally:
            self.release()

    def release(self) -> None:
        """Drop what refers to the app: the request is over.

        This object may live longer, in a context that the server has copied for a timer of its own
        (uvicorn's keep-alive timer), or in a copied scope.
        """
        self.__dict__.pop("_token", None)
        self._scope = {}
        self.task = None
        if self.exchange is not None:
            self.exchange.release()
