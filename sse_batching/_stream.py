"""One batched response: the only writer to the server's `send`."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, Protocol

import anyio

from ._coalescing import Coalescer
from ._ending import Cause
from ._merging import Merger
from ._options import Options
from ._policy import ends_response, takes_comments
from ._scheduling import Scheduler
from ._states import CLOSED, COMPLETED, ENDING, STREAMING, State
from ._typing import Message, Send
from ._writing import BatchWriter
from .reasons import CancelReason

DISCONNECTED: Final = "SSE client disconnected"
STALLED: Final = "SSE client does not read any more"
SHUT_DOWN: Final = "request cancelled by the server"
BROKEN: Final = "SSE write failed"

MOMENT: Final = 0.0001
"""Seconds that an app may go on in a turn of the loop that is too long already."""

BODY: Final = "http.response.body"
USUAL_KEYS: Final = frozenset({"type", "body", "more_body"})


class Owner(Protocol):
    """Who owns the state of the request."""

    @property
    def state(self) -> State:
        """Where the request stands."""

    def move(self, state: State) -> None:
        """The app has sent its last message, or the server has taken it."""

    def send(self, message: Message) -> Awaitable[None]:
        """The app's `send`, for a message that came as the state changed."""

    def close(self, cause: Cause) -> None:
        """The stream cannot go on."""

    def raising(self, error: BaseException) -> None:
        """This is going to be raised in a `send` of the app's."""

    def refuse(self, *, held: bool = False) -> None:
        """What a `send` does once the stream is closed; `held`: it came before that."""


class BatchedResponse:
    """Takes what the app sends and has it written in batches.

    The bytes that go out need not be the bytes that came in: only `coalescer` counts the latter,
    only `writer` the former.
    """

    __slots__ = (
        "_give_way",
        "_owner",
        "_record_left",
        "_recorded",
        "_time",
        "_turn",
        "_turns",
        "batching",
        "coalescer",
        "held",
        "moment_ends",
        "write",
        "writer",
    )

    def __init__(
        self,
        owner: Owner,
        send: Send,
        start: Message,
        options: Options,
        scheduler: Scheduler,
        merger: Merger | None,
    ) -> None:
        self.coalescer = Coalescer(options.max_delay, options.max_batch_bytes, merger)
        self.batching = True
        """Whether chunks are gathered; otherwise each is delivered before `send` returns."""
        self.held = 0
        """How many sends of the app's wait in here."""
        self._owner = owner
        self.write = send
        self._time = scheduler.time
        self._turns = scheduler.turns
        self._give_way = scheduler.give_way
        self._turn = 0
        self.moment_ends = 0.0
        """Until then the app may go on, however long the turn of the loop."""
        self._record_left = options.record_bytes
        self._recorded: list[bytes] = []
        self.writer: BatchWriter[Message] = BatchWriter(
            self,
            self.coalescer,
            scheduler,
            send_timeout=options.send_timeout,
            keepalive_interval=options.keepalive_interval if takes_comments(start) else None,
        )

    @property
    def recorded(self) -> bytes:
        """The first `record_bytes` bytes that the app produced."""
        return b"".join(self._recorded)

    def configure(self, max_delay: float | None, *, batching: bool) -> None:
        """Change how the chunks that come are gathered; for those that wait, see `set_delay`."""
        self.batching = batching
        self.coalescer.is_open = False
        if not batching:
            self.coalescer.stop_merging()
        if max_delay is not None:
            self.writer.set_delay(max_delay)

    # For the app.

    async def send(self, message: Message) -> None:
        """The app's `send`, with all the questions that there are."""
        writer, coalescer = self.writer, self.coalescer
        if not writer.accepting:
            await self._hold(writer.line_up())  # another task of the app's was here first
            if self._owner.state is CLOSED:
                return  # this one was let off
        if self._owner.state is not STREAMING:
            await self._owner.send(message)
            return
        body, more = message.get("body"), message.get("more_body")
        if type(body) is not bytes or message["type"] != BODY or len(message) != 3 or more is None:
            await self._send_unusual(message)
            return
        if not more:
            await self._send_last(message, body)
            return
        now = self._time()
        # An empty chunk is nothing, but the first: it can be meant to send headers (daphne).
        if body or coalescer.stream_began is None:
            self._record(body)
            coalescer.add(body, now)
            writer.attend(now)
        # If nobody is in line and nothing is recorded, those that follow need not come by here.
        coalescer.is_open = not (writer.claims or self._record_left)
        if not self.batching:
            await self._hold(writer.deliver(None))
        elif coalescer.full:
            await self._hold(writer.room())
        elif self.has_held_up_the_loop(now):
            await self._hold(self._give_way())

    def has_held_up_the_loop(self, now: float) -> bool:
        """Whether this app has to give way: one that never awaits anything would freeze the loop.

        In a turn that others have made too long, an app still gets its moment: to give way costs as
        much as some events.
        """
        turns = self._turns
        if turns.over(now):
            if self._turn == turns.number:
                return now >= self.moment_ends
            self.moment_ends = now + MOMENT  # the first chunk in this turn
        self._turn = turns.number
        return False

    async def _send_last(self, message: Message, body: bytes) -> None:
        if body:
            self._record(body)
            self.coalescer.add(body, self._time())
        self._owner.move(ENDING)
        await self.deliver(message, last=True)

    async def _send_unusual(self, message: Message) -> None:
        """A chunk that is not put in the usual way; and all else, untouched, in its place."""
        body = message.get("body", b"")
        is_body = message["type"] == "http.response.body"
        more = bool(message.get("more_body", False))
        if is_body and isinstance(body, bytes | bytearray | memoryview):
            body = bytes(body)  # the app may use its buffer again, and daphne takes nothing else
            if not more:
                await self._send_last(message, body)
                return
            if message.keys() <= USUAL_KEYS:
                await self.send({"type": message["type"], "body": body, "more_body": True})
                return
            self._record(body)
        self.coalescer.stop_merging()  # what goes by unseen may be a part of an event
        size = len(body) if isinstance(body, bytes) else 0
        has_body = is_body or message["type"] == "http.response.zerocopysend"
        ends = ends_response(message)
        if ends:
            self._owner.move(ENDING)
        await self.deliver(message, ends=ends, size=size if has_body else None)

    async def deliver(
        self,
        message: Message,
        *,
        last: bool = False,
        ends: bool = False,
        size: int | None = None,
    ) -> None:
        """Have what is buffered written, and then the message; return when both are delivered."""
        await self._hold(self.writer.deliver(message, last=last, ends=ends, size=size))

    async def flush(self) -> None:
        """Have what is buffered written; return when it is delivered."""
        await self._hold(self.writer.flush())

    async def _hold(self, wait: Awaitable[None]) -> None:
        """Let a `send` of the app's wait. If the stream is closed meanwhile, it is the first to
        know."""
        self.held += 1
        try:
            await wait
        except Exception:
            if self._owner.state is not CLOSED:
                raise  # the server refuses what the app sends: the app's own affair
        except BaseException as cancellation:
            self._owner.raising(cancellation)
            raise
        finally:
            self.held -= 1
        if self._owner.state is CLOSED:
            self._owner.refuse(held=True)

    def _record(self, body: bytes) -> None:
        if self._record_left:
            kept = body[: self._record_left]
            self._record_left -= len(kept)
            self._recorded.append(kept)

    # For the one who cleans up.

    async def write_rest(self) -> None:
        """Deliver what is buffered, if the server takes it. Whether it did shows in the figures."""
        try:
            await self.writer.flush()
        except Exception as error:  # noqa: BLE001
            # No `send` is left that could raise it. A disconnect has closed the stream already.
            self._owner.close(Cause(CancelReason.SEND_FAILED, BROKEN, error, apps_fault=True))

    def abort(self) -> None:
        """Write nothing more."""
        self.coalescer.drop()
        self.writer.abort()

    # What the writer works for (`_writing.Sink`).

    def batch(self, body: bytes) -> Message:
        return {"type": "http.response.body", "body": body, "more_body": True}

    def last(self, body: bytes, message: Message) -> Message:
        return message if body is message.get("body", b"") else {**message, "body": body}

    def last_written(self) -> None:
        if self._owner.state is ENDING:
            self._owner.move(COMPLETED)

    def write_failed(self, error: BaseException, *, told: bool) -> None:
        if is_disconnect(error):
            self._owner.close(Cause(CancelReason.SEND_FAILED, DISCONNECTED, error))
        elif not isinstance(error, Exception):  # somebody ends all tasks of the loop
            self._owner.close(Cause(CancelReason.SERVER_SHUTDOWN, SHUT_DOWN, error))
        elif not told:
            self._owner.close(Cause(CancelReason.SEND_FAILED, BROKEN, error, apps_fault=True))

    def write_stalled(self) -> None:
        self._owner.close(Cause(CancelReason.SEND_TIMEOUT, STALLED))


def is_disconnect(error: BaseException) -> bool:
    """Whether a write that raised this found the client gone.

    Anything else is the server's word on a mistake of the app's: too many bytes for the
    Content-Length, a message out of order.
    """
    if isinstance(error, OSError | anyio.BrokenResourceError | anyio.ClosedResourceError):
        return True
    # uvloop, writing to a transport that is closed (uvicorn with a pipelined second request).
    return isinstance(error, RuntimeError) and "the handler is closed" in str(error)
