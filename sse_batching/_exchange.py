"""One request and its response: what state it is in, and what ends it."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Awaitable
from contextlib import suppress
from typing import Final

import anyio
from asgiref.sync import markcoroutinefunction

from ._coalescing import Coalescer
from ._ending import Cause, Ending
from ._options import Options, check_seconds
from ._policy import ends_response, is_batched, merger_for
from ._receiving import Receiver
from ._refusing import Refusals
from ._scheduling import Alarm, Host, Scheduler
from ._states import (
    ABANDONED,
    AWAITING,
    CLOSED,
    COMPLETED,
    ENDING,
    PASSING,
    STREAMING,
    TRANSITIONS,
    State,
)
from ._stream import BODY, DISCONNECTED, SHUT_DOWN, BatchedResponse, is_disconnect
from ._typing import Message, Receive, Scope, Send
from .cancellation import CancellationToken
from .reasons import CancelReason
from .report import Outcome, StreamReport

logger: Final = logging.getLogger("sse_batching")

LAST_WRITE_TIME: Final = 1.0
"""Seconds for the last write once the server has said `http.disconnect`: some say it just before
the last write returns (hypercorn on trio), on others it never returns (hypercorn, HTTP/2)."""

CLEANUP_TIME: Final = 1.0
"""Seconds for our own tasks to end; one that is stuck in a `send` which cannot be cancelled
(hypercorn on trio) is left to the server."""

_lock: Final = threading.Lock()


class Exchange:
    """One request and its response, and the only owner of their state."""

    # Slots: CPython 3.11 reads an attribute that is but a default of the class ten times slower.
    __slots__ = (
        "_batching",
        "_began",
        "_ending",
        "_host",
        "_id",
        "_last_write",
        "_max_delay",
        "_options",
        "_receiver",
        "_refusals",
        "_response",
        "_scheduler",
        "_scope",
        "_server_receive",
        "_server_send",
        "_streaming",
        "_task",
        "_time",
        "_turns",
        "over",
        "state",
        "touched",
    )

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, options: Options, scheduler: Scheduler
    ) -> None:
        self.state = AWAITING
        self.over = False
        """Whether the app has ended, and the middleware with it."""
        self.touched = False
        """Whether there is something to clean up, or to report, when the app has ended."""
        self._scope = scope
        self._server_receive = receive
        self._server_send = send
        self._options = options
        self._scheduler = scheduler
        self._time = scheduler.time
        self._turns = scheduler.turns
        self._task = scheduler.current()
        self._began = scheduler.time()
        # Most requests end without any of these.
        self._receiver: Receiver | None = None
        self._host: Host | None = None
        self._ending: Ending | None = None
        self._response: BatchedResponse | None = None
        self._streaming: Coalescer | None = None  # of the response, while it streams
        self._id: str | None = None
        self._max_delay: float | None = None  # of this response, in place of the option
        self._batching = True
        self._last_write: Alarm | None = None
        self._refusals: Refusals | None = None

    # What the code that serves the request asks for.

    @property
    def id(self) -> str:
        if self._id is None:
            with _lock:  # threads may ask as well
                self._id = self._id or secrets.token_hex(16)
        return self._id

    @property
    def token(self) -> CancellationToken:
        token = self.ending.token
        if not self.receiver.watched and self.state is not COMPLETED:
            self._scheduler.run_in_loop(self._watch)
        return token

    async def flush(self) -> None:
        if self.state is CLOSED:
            self.refuse()
        elif self.state is STREAMING and self._response is not None:
            await self._response.flush()

    def configure(self, max_delay: float | None, enabled: bool | None) -> None:
        if max_delay is not None:
            check_seconds("max_delay", max_delay)
            self._max_delay = max_delay
        if enabled is not None:
            self._batching = enabled
        if self._response is not None:
            self._response.configure(self._max_delay, batching=self._batching)

    # The app's `receive` and `send`. The former is a plain function, which costs no coroutine. But
    # marked as what it stands for, for those who ask.

    @markcoroutinefunction
    def receive(self) -> Awaitable[Message]:
        """The `receive` that the app is given."""
        return self.receiver.receive()

    @property
    def receiver(self) -> Receiver:
        if self._receiver is None:
            with _lock:  # a thread that asks for the token may want it at the same time
                if self._receiver is None:
                    self._receiver = Receiver(self._server_receive, self._scheduler)
        return self._receiver

    async def send(self, message: Message) -> None:
        """The `send` that the app is given."""
        # The usual case first, and in line: this is what an event costs.
        coalescer = self._streaming
        if coalescer is None:
            await self._send(message)
            return
        response = self._response
        assert response is not None  # or nothing would stream
        try:
            body, more = message["body"], message["more_body"]
        except KeyError:
            more = False
        if more and type(body) is bytes and len(message) == 3 and message["type"] == BODY:
            size = coalescer.size + len(body)
            if body and size < coalescer.limit and coalescer.is_open:
                now = self._time()
                if (
                    now <= self._turns.limit
                    or now < response.moment_ends
                    or not response.has_held_up_the_loop(now)
                ):
                    if coalescer.join(body, size, now):
                        response.writer.attend(now)
                    return
        await response.send(message)

    def _send(self, message: Message) -> Awaitable[None]:
        """The same, of a response that does not stream: not yet, not any more, or not at all."""
        state = self.state
        if state is PASSING:
            if self._ending is not None:
                return self._send_passing(message)
            if ends_response(message):
                # Before the write: during it the server already says `http.disconnect`.
                self.move(COMPLETED)
        elif state is AWAITING or state is ABANDONED:
            if message.get("type") == "http.response.start":
                headers = message.get("headers", ())
                if type(headers) is not list and type(headers) is not tuple:
                    # It may be an iterator, which looking at it would use up.
                    message = {**message, "headers": list(headers)}
                if is_batched(self._scope, message, self._options.media_types):
                    return self._start(message)
                self.move(PASSING)
        elif state is CLOSED or state is ENDING:
            return self._send_late(message)
        if self._ending is not None:
            return self._send_passing(message)
        return self._server_send(message)

    async def _send_passing(self, message: Message) -> None:
        """A response that is not batched, while somebody may want to know of its failure."""
        if self.state is PASSING and ends_response(message):
            self.move(COMPLETED)
        try:
            await self._server_send(message)
        except Exception as error:
            if is_disconnect(error):
                self.close(Cause(CancelReason.SEND_FAILED, DISCONNECTED, error))
            raise

    def _start(self, message: Message) -> Awaitable[None]:
        if not self._scheduler.in_loop():
            return self._start_in_loop(message)
        if self.state is ABANDONED:
            self.move(CLOSED)
            self.ending.tell_app()
            return self._send_late(message)
        self.move(STREAMING)
        self.touched = True
        response = self._response = BatchedResponse(
            self,
            self._server_send,
            message,
            self._options,
            self._scheduler,
            merger_for(self._scope, message, self._options),
        )
        self._streaming = response.coalescer
        response.configure(self._max_delay, batching=self._batching)
        self._watch()
        return response.deliver(message)

    async def _start_in_loop(self, message: Message) -> None:
        """`send` was called in a thread, and is awaited here: asgiref's `async_to_sync` does so."""
        await self._start(message)

    async def _send_late(self, message: Message) -> None:
        """A send of a stream that is closed, or is just ending in another task."""
        if self.state is not CLOSED and self._response is not None:
            await self._response.writer.line_up()
        if self.state is CLOSED:
            await self.refusals.refuse_late()
        else:
            await self._server_send(message)

    # What the reader tells (`_receiving.Watcher`).

    def client_left(self) -> None:
        if self.state is COMPLETED:
            self.receiver.hand_over()
        elif self.state is ENDING:
            self._last_write = Alarm(self._scheduler, self._last_write_due)
            self._last_write.ring_at(self._time() + LAST_WRITE_TIME)
        else:
            self.close(Cause(CancelReason.CLIENT_DISCONNECTED, DISCONNECTED))

    def receive_cancelled(self, error: BaseException) -> None:
        self.raising(error)
        self.host.on_outside_cancel(self.server_cancelled)

    # How it ends.

    @property
    def ended_early(self) -> bool:
        """Whether the request has ended before its time."""
        return self._ending is not None and self._ending.cause is not None

    @property
    def mistake(self) -> BaseException | None:
        """What the server said of a mistake of the app's, if nobody has told the app."""
        cause = self._ending.cause if self._ending is not None else None
        if cause is None or not cause.apps_fault or self.refusals.told:
            return None
        return cause.error

    @property
    def host(self) -> Host:
        """The task of the request. For one that neither streams nor has a token, nobody asks."""
        if self._host is None:
            with _lock:
                self._host = self._host or self._scheduler.host(self._task)
        return self._host

    @property
    def ending(self) -> Ending:
        if self._ending is None:
            host, receiver = self.host, self.receiver
            with _lock:
                if self._ending is None:
                    self.touched = True
                    self._ending = Ending(
                        self._scheduler,
                        host,
                        self._options.grace_period,
                        hand_over=receiver.hand_over,
                        app_waits=lambda: receiver.app_waits,
                        must_stop=lambda: self.state is CLOSED,
                    )
        return self._ending

    def _watch(self) -> None:
        if self.state is not COMPLETED and not self.over:
            self._host = self.host  # from here on it counts who cancels the task
            self.receiver.watch(self)

    def move(self, state: State) -> None:
        """The one place where the state changes."""
        assert state in TRANSITIONS[self.state], f"{self.state} -> {state}"
        self.state = state
        self._streaming = None
        if state is COMPLETED and self._receiver is not None:
            self._receiver.unwatch()

    def _last_write_due(self, now: float) -> float | None:
        if self.state is ENDING:
            self.close(Cause(CancelReason.CLIENT_DISCONNECTED, DISCONNECTED))
        return None

    def server_cancelled(self) -> None:
        """The server, or a middleware around this one, has cancelled the request."""
        self.close(Cause(CancelReason.SERVER_SHUTDOWN, SHUT_DOWN))

    def close(self, cause: Cause) -> None:
        """End the request before its time. The first cause counts."""
        ending = self.ending
        if ending.cause is not None or self.state is COMPLETED:
            return
        if self.state is AWAITING:
            self.move(ABANDONED)
        elif self.state is not PASSING:
            self.move(CLOSED)
        self.refusals.begin()
        try:
            ending.begin(cause)
        finally:  # a callback may have raised KeyboardInterrupt
            self._after_the_cause(cause, ending)

    def _after_the_cause(self, cause: Cause, ending: Ending) -> None:
        response = self._response
        if response is not None and cause.reason is not CancelReason.SERVER_SHUTDOWN:
            response.abort()
        self.receiver.give_up()
        # A `send` that waits in here goes first, and tells the app itself: the generator must be
        # out of our hands, and at an await of its own, when the framework cancels it.
        if ending.asked or response is None or not response.held:
            ending.tell_app()
        logger.info(
            "stream %s: %s (%s) after %.3f s, %d bytes sent, %d undelivered",
            self.id,
            cause.message,
            cause.reason,
            self._time() - self._began,
            response.writer.bytes_sent if response is not None else 0,
            response.coalescer.undelivered if response is not None else 0,
        )

    @property
    def refusals(self) -> Refusals:
        """Of the sends that come once the stream is closed."""
        if self._refusals is None:
            self._refusals = Refusals(self.ending, self.receiver, self._scheduler)
        return self._refusals

    def refuse(self, *, held: bool = False) -> None:
        self.refusals.refuse(held=held)

    def raising(self, error: BaseException) -> None:
        self.refusals.remember(error)

    # When the app has ended.

    async def settle(self, *, cancelled: bool) -> tuple[bool, BaseException | None]:
        """Clean up after the app, which `cancelled` may have ended.

        Whether that cancellation was none but our own; and a cancellation from outside that came
        while the rest was written, which the caller has to raise.
        """
        if self._refusals is not None:
            self._refusals.stop()
        ours = await self.host.absorb(running=not cancelled)
        if cancelled and not ours:
            self.server_cancelled()
        self._stop_ending()
        await self.host.absorb(running=True)  # what a callback of the token may have asked for
        late: BaseException | None = None
        response = self._response
        try:
            if response is not None and not response.writer.over:
                if cancelled:
                    await self._write_in_time(response)
                else:
                    await response.write_rest()
        except anyio.get_cancelled_exc_class() as error:
            self.server_cancelled()
            late = None if cancelled else error  # the first one goes on already
            self._stop_ending()
            if late is not None and response is not None:
                with suppress(anyio.get_cancelled_exc_class()):  # `late` tells it all
                    await self._write_in_time(response)
        finally:
            self.stop()
        if not self._stopped:
            try:
                with anyio.CancelScope(shield=True):
                    await self.receiver.join(CLEANUP_TIME)
                    if response is not None:
                        await response.writer.join(CLEANUP_TIME)
            except anyio.get_cancelled_exc_class() as error:  # asyncio's come through a shield
                late = None if cancelled else error
            if not self._stopped:
                logger.warning("stream %s: the server's `send` cannot be cancelled", self.id)
        return ours, late

    def _stop_ending(self) -> None:
        """There is no app left to cancel."""
        if self._ending is not None:
            self._ending.stop()

    async def _write_in_time(self, response: BatchedResponse) -> None:
        """A cancelled request gets a moment to write what is left of it."""
        with anyio.move_on_after(CLEANUP_TIME, shield=True):
            await response.write_rest()

    @property
    def _stopped(self) -> bool:
        return self.receiver.stopped and (self._response is None or self._response.writer.stopped)

    def stop(self) -> None:
        """Write and watch no more. What is left of our tasks ends by itself, and what a task that
        the app left behind may still send goes to the server."""
        if self.state is STREAMING:
            self.move(PASSING)
        if self._response is not None:
            self._response.abort()
        self.receiver.stop()
        if self._last_write is not None:
            self._last_write.stop()
        if self._refusals is not None:
            self._refusals.stop()
        self._stop_ending()

    def release(self) -> None:
        """The request is over. What still holds the exchange, a context that the server has copied
        for a timer of its own say, holds nothing else of it."""
        self._scope = {}
        self._response = None
        if self._ending is not None:
            self._ending.release()

    def report(self, error: BaseException | None) -> StreamReport | None:
        """What became of the stream; None if the request was not one. `error`: the app's."""
        ending, response = self._ending, self._response
        cause = ending.cause if ending is not None else None
        if response is None and cause is None:
            return None
        now = self._time()
        outcome: Outcome = "failed"
        if cause is not None:
            outcome = "failed" if cause.apps_fault else "incomplete"
        elif self.state is COMPLETED:
            outcome = "completed"
        closed_at = ending.began if ending is not None else None
        coalescer = response.coalescer if response is not None else Coalescer(0, 1)
        first = coalescer.stream_began
        return StreamReport(
            stream_id=self.id,
            outcome=outcome,
            reason=cause.reason if cause is not None else None,
            error=error if cause is None or cause.error is None else cause.error,
            chunks=coalescer.chunks,
            bytes_in=coalescer.bytes_in,
            writes=response.writer.writes if response is not None else 0,
            bytes_sent=response.writer.bytes_sent if response is not None else 0,
            bytes_undelivered=coalescer.undelivered,
            time_to_first_chunk=None if first is None else first - self._began,
            duration=now - self._began,
            longest_delay=coalescer.longest_delay,
            cancel_latency=None if closed_at is None else now - closed_at,
            recorded=response.recorded if response is not None else b"",
            recorded_all=response is None or len(response.recorded) == coalescer.bytes_in,
        )
