"""One request that streams, or whose token was asked for: its `send`, its state, and its end."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

import anyio

from ._buffer import Buffer
from ._cause import CLIENT_LEFT, SERVER_CANCELLED, Cause, of_failed_write
from ._disconnect import Disconnect, follows_disconnect
from ._loop import AppTask, LazyTimer, Loop
from ._options import Options
from ._policy import ends_response, is_batched, merger_for, with_header_list
from ._receiver import Receiver
from ._response import BatchedResponse
from ._states import (
    ABANDONED,
    AWAITING,
    CLOSED,
    COMPLETED,
    FINISHING,
    PASSING,
    STREAMING,
    TRANSITIONS,
    State,
)
from ._types import BODY, START, Message, Scope, Send
from .cancellation import CancellationToken
from .reasons import CancelReason
from .report import Outcome, StreamReport

logger: Final = logging.getLogger("sse_batching")

LAST_WRITE_TIME: Final = 1.0
"""Seconds that the last write may still take after `http.disconnect`. hypercorn on trio says
`http.disconnect` just before the last write returns. hypercorn with HTTP/2 never returns from the
last write of a client that has left."""

CLEANUP_TIME: Final = 1.0
"""Seconds for writing what is buffered when the request is cancelled, and then for each task of
this package to end. A task that is stuck in a `send` which cannot be cancelled (hypercorn on trio)
is left to the server."""


class Finished(NamedTuple):
    """How a request ended."""

    report: StreamReport | None
    """None if there is nothing to report: the request neither streamed nor ended early, or no time
    is left (`GeneratorExit`, `KeyboardInterrupt`)."""
    error: BaseException | None
    """The exception that the middleware raises; None: the middleware returns."""
    cancelled: bool = False
    """True if the request was cancelled, by the server or by this package: little time is left."""


class Exchange:
    """One request that streams, or whose token was asked for. Owns the state of the request.

    Data goes down by calls, from `send` to the response, its buffer and its writer. One signal
    comes up: `close`.
    """

    __slots__ = (
        "_app_task",
        "_began",
        "_disconnect",
        "_id",
        "_last_write_timer",
        "_latency",
        "_loop",
        "_options",
        "_receiver",
        "_response",
        "_scope",
        "_server_send",
        "_streaming",
        "_time",
        "_waiting_sends",
        "state",
    )

    def __init__(
        self,
        scope: Scope,
        send: Send,
        receiver: Receiver,
        options: Options,
        loop: Loop,
        app_task: AppTask,
        *,
        id: str,
        began: float,
        state: State,
    ) -> None:
        self.state = state
        self._scope = scope
        self._server_send = send
        self._receiver = receiver
        self._options = options
        self._loop = loop
        self._app_task = app_task
        self._id = id
        self._began = began
        self._time = loop.time
        self._latency = loop.latency
        self._response: BatchedResponse | None = None
        self._streaming: BatchedResponse | None = None  # the response, while STREAMING
        self._disconnect: Disconnect | None = None  # made by a token, or by an early end
        self._waiting_sends = 0  # calls of the app's `send` that wait in this package
        self._last_write_timer: LazyTimer | None = None

    # For the code that serves the request.

    def watch_for_token(self, token: CancellationToken) -> None:
        """Cancel this token when the request ends early. From now on, watch the server's `receive`
        for that."""
        self.disconnect.set_token(token)
        if self.state is not COMPLETED:
            self._receiver.watch(self.close)

    async def flush(self) -> None:
        """See `Stream.flush`."""
        if self.state is CLOSED:
            self.disconnect.reject_or_ignore(waited=False)
        elif self.state is STREAMING and self._response is not None:
            await self._wait_for(self._response.writer.flush())

    def configure(self, max_delay: float | None, enabled: bool | None) -> None:
        """See `Stream.configure`."""
        self._options = replace(
            self._options,
            max_delay=self._options.max_delay if max_delay is None else max_delay,
            batching=self._options.batching if enabled is None else enabled,
        )
        if self._response is not None:
            self._response.configure(self._options)

    # The app's `send`.

    async def send(self, message: Message) -> None:
        """The `send` of the app, from the moment that this exchange was made."""
        response = self._streaming
        if response is not None:
            # The fast path. It is not a method of its own, because every event takes it.
            try:
                body, more = message["body"], message["more_body"]
            except KeyError:
                more = False
            if more and type(body) is bytes and len(message) == 3 and message["type"] == BODY:
                now = self._time()
                if (
                    now <= self._latency.limit
                    or now < response.may_run_until
                    or not response.must_yield(now)
                ) and response.buffer.add_nowait(body, now):
                    return
            await self._send_streaming(message, response)
        elif self.state is CLOSED or self.state is FINISHING:
            await self._send_late(message)
        else:
            await self._send_unbatched(message)

    async def _send_streaming(self, message: Message, response: BatchedResponse) -> None:
        """The slow path of `send`: flow control, the last message, unusual messages."""
        if not response.writer.accepting:
            await self._wait_for(response.writer.wait_turn())
            if self.state is CLOSED:
                return  # `_wait_for` has ignored this `send`
            if self.state is not STREAMING:  # another task sent the last message meanwhile
                await self.send(message)
                return
        if ends_response(message):
            self.move(FINISHING)
        await self._wait_for(response.send(message))

    async def _send_unbatched(self, message: Message) -> None:
        """Start a batched response, or pass the message to the server."""
        if self.state is AWAITING or self.state is ABANDONED:
            if message.get("type") == START:
                message = with_header_list(message)
                if is_batched(self._scope, message, self._options.media_types):
                    await self.start(message)
                    return
                self.move(PASSING)
        elif self.state is PASSING and ends_response(message):
            self.move(COMPLETED)  # before the write, as in `RequestContext.send`
        try:
            await self._server_send(message)
        except Exception as error:
            cause = of_failed_write(error)
            if not cause.is_app_error:
                self.close(cause)
            raise

    async def start(self, message: Message) -> None:
        """Start a batched response with this `http.response.start`. If the client has left before,
        close the response instead."""
        if self.state is ABANDONED:
            self.move(CLOSED)
            self.disconnect.must_stop = True
            self.disconnect.notify_app()
            await self._send_late(message)
            return
        self.move(STREAMING)
        close = self.close  # one bound method for both
        merger = merger_for(self._scope, message, self._options)
        response = BatchedResponse(
            self._server_send, message, self._options, self._loop, merger, close
        )
        self._response = self._streaming = response
        self._receiver.watch(close)
        await self._wait_for(response.writer.write_through(message))

    async def _wait_for(self, delivery: Awaitable[None]) -> None:
        """Await `delivery` on behalf of the app's `send`. If the stream is closed meanwhile, reject
        or ignore the `send`. `reject_or_ignore` then raises from the exception of a failed
        write."""
        self._waiting_sends += 1
        try:
            await delivery
        except Exception as error:
            if self.state is not CLOSED:
                raise  # an app error: the server's `send` raised because of the app's message
            cause = self.disconnect.cause
            if cause is not None and cause.is_app_error and cause.error is error:
                self.disconnect.app_error_raised = True
                raise  # the same, and a batch was lost with that message
        except BaseException as cancellation:
            self.disconnect.clear_traceback_later(cancellation)
            raise
        finally:
            self._waiting_sends -= 1
        if self.state is CLOSED:
            self.disconnect.reject_or_ignore(waited=True)

    async def _send_late(self, message: Message) -> None:
        """Take a message that comes after the last message, or after the stream was closed."""
        if self.state is not CLOSED and self._response is not None:
            await self._response.writer.wait_turn()
        if self.state is CLOSED:
            await self.disconnect.reject_or_ignore_late()
        else:
            # The server accepts trailers. For anything else it raises.
            await self._server_send(message)

    def receive_failed(self, error: BaseException) -> None:
        """Close the stream if the server has cancelled the request while the app was in `receive`.

        `error`: what the app's `receive` raises.
        """
        if self._receiver.watching and not isinstance(error, Exception):
            self.disconnect.clear_traceback_later(error)
            self._app_task.if_cancelled_outside(partial(self.close, SERVER_CANCELLED))

    # The end of the response.

    @property
    def disconnect(self) -> Disconnect:
        """The object that handles an early end. Made on first use."""
        if self._disconnect is None:
            self._disconnect = Disconnect(
                self._loop, self._app_task, self._receiver, self._options.grace_period
            )
        return self._disconnect

    @property
    def cause(self) -> Cause | None:
        """Why the request ended early, once it did. Safe in any thread."""
        return self._disconnect.cause if self._disconnect is not None else None

    def move(self, state: State) -> None:
        """Change the state. Only this method changes the state of an exchange."""
        assert state in TRANSITIONS[self.state], f"{self.state} -> {state}"
        self.state = state
        self._streaming = None
        if state is COMPLETED:
            self._receiver.unwatch()

    def close(self, cause: Cause | None) -> None:
        """End the response: completely (None), or early for this cause. Only the first cause
        counts.

        The one signal from the parts below: from the writer, the receiver and the app task. If the
        client leaves during the last write, the write may still take `LAST_WRITE_TIME`.
        """
        if cause is None:
            if self.state is FINISHING:
                self.move(COMPLETED)
        elif cause is CLIENT_LEFT and self.state is FINISHING:
            self._last_write_timer = LazyTimer(self._loop, self._last_write_timed_out)
            self._last_write_timer.reschedule(self._time() + LAST_WRITE_TIME)
        else:
            self._close_early(cause)

    def _last_write_timed_out(self, now: float) -> None:
        if self.state is FINISHING:
            self._close_early(CLIENT_LEFT)

    def _close_early(self, cause: Cause) -> None:
        disconnect = self.disconnect
        if disconnect.cause is not None or self.state is COMPLETED:
            return
        if self.state is AWAITING:
            self.move(ABANDONED)
        elif self.state is not PASSING:
            self.move(CLOSED)
            disconnect.must_stop = True
        try:
            disconnect.begin(cause)
        finally:  # a callback of the token may have raised KeyboardInterrupt
            self._stop_and_notify(cause, disconnect)

    def _stop_and_notify(self, cause: Cause, disconnect: Disconnect) -> None:
        response = self._response
        # If the server has cancelled the request, the client may still be there: `finish` writes
        # what is buffered.
        if response is not None and cause.reason is not CancelReason.SERVER_SHUTDOWN:
            response.writer.abort()
        self._receiver.give_up()
        # A waiting `send` must return first: then the framework cancels its generator at an `await`
        # of the generator's own. `reject_or_ignore` notifies the app then. With a token,
        # `notify_app` only starts the grace period.
        if disconnect.token_requested or not self._waiting_sends:
            disconnect.notify_app()
        logger.info(
            "stream %s: %s (%s) after %.3f s, %d bytes sent, %d undelivered",
            self._id,
            cause.message,
            cause.reason,
            self._time() - self._began,
            response.writer.bytes_sent if response is not None else 0,
            response.buffer.undelivered if response is not None else 0,
        )

    # The end of the request.

    async def finish(self, error: BaseException | None) -> Finished:
        """Write what is buffered, stop everything of this package, and decide how the request ends.

        `error`: what the app raised.
        """
        cancelled = isinstance(error, anyio.get_cancelled_exc_class())
        if error is not None and not isinstance(error, Exception) and not cancelled:
            # GeneratorExit or KeyboardInterrupt: there may be no event loop left to await anything.
            self.close(SERVER_CANCELLED)
            self._stop()
            return Finished(None, error)
        self._stop_notifying()
        # `ours`: only this package, or a callback of the token, has cancelled the app.
        ours = await self._app_task.uncancel(cancelled=cancelled)
        if cancelled and not ours:
            self.close(SERVER_CANCELLED)
        self._stop_notifying()
        await self._app_task.uncancel(cancelled=False)  # a callback of the token may have cancelled
        late: BaseException | None = None  # a cancellation that came while this method waited
        try:
            await self._write_rest(in_time=cancelled)
        except anyio.get_cancelled_exc_class() as cancellation:
            self.close(SERVER_CANCELLED)
            self._stop_notifying()
            if not cancelled:
                late = cancellation
                with suppress(anyio.get_cancelled_exc_class()):  # `late` will be raised
                    await self._write_rest(in_time=True)
        finally:
            self._stop()
        if not self._stopped:
            try:
                await self._join()
            except anyio.get_cancelled_exc_class() as cancellation:
                late = None if cancelled else cancellation
        report = self._report(None if ours else error)
        return Finished(
            report, late or self._raised(error, ours=ours), cancelled or late is not None
        )

    def _raised(self, error: BaseException | None, *, ours: bool) -> BaseException | None:
        """Return what the middleware raises, or None. `error`: what the app raised."""
        cause = self.cause
        if error is not None and not ours and (cause is None or not follows_disconnect(error)):
            return error
        if error is not None:
            logger.debug("stream %s: swallowed after the disconnect: %r", self._id, error)
        if cause is not None and cause.is_app_error and not self.disconnect.app_error_raised:
            return cause.error
        return None

    async def _write_rest(self, *, in_time: bool) -> None:
        """Write what is buffered. `in_time`: for at most `CLEANUP_TIME`, shielded.

        This does not use `_wait_for`, which would keep an exception after the tracebacks were
        cleared. On trio the app's generator would stay suspended.
        """
        response = self._response
        if response is None or response.writer.closed:
            return
        limit = anyio.move_on_after(CLEANUP_TIME, shield=True) if in_time else nullcontext()
        try:
            with limit:
                await response.writer.flush()
        except Exception as error:  # noqa: BLE001 (no `send` is left that could raise it)
            self.close(of_failed_write(error))

    def _stop_notifying(self) -> None:
        if self._disconnect is not None:
            self._disconnect.stop()

    def _stop(self) -> None:
        """Stop writing and watching: cancel the tasks of this package, which `_join` waits for. A
        task that the app left behind sends to the server directly (PASSING)."""
        if self.state is STREAMING:
            self.move(PASSING)
        if self._response is not None:
            self._response.writer.abort()
        self._receiver.stop()
        if self._last_write_timer is not None:
            self._last_write_timer.stop()
        self._stop_notifying()

    @property
    def _stopped(self) -> bool:
        return self._receiver.stopped and (self._response is None or self._response.writer.stopped)

    async def _join(self) -> None:
        """Wait for the tasks of this package, at most `CLEANUP_TIME` for each."""
        try:
            with anyio.CancelScope(shield=True):
                await self._receiver.join(CLEANUP_TIME)
                if self._response is not None:
                    await self._response.writer.join(CLEANUP_TIME)
        finally:
            if not self._stopped:
                logger.warning("stream %s: the server's `send` cannot be cancelled", self._id)

    def release(self) -> None:
        """Drop the parts that refer to the app or to the server's messages: the request is over."""
        self._scope = {}
        self._response = None
        if self._disconnect is not None:
            self._disconnect.release()

    def _report(self, error: BaseException | None) -> StreamReport | None:
        """Return the report. None if the request neither streamed nor ended early. `error`: the
        app's."""
        disconnect, response = self._disconnect, self._response
        cause = disconnect.cause if disconnect is not None else None
        if response is None and cause is None:
            return None
        now = self._time()
        outcome: Outcome = "failed"
        if cause is not None:
            outcome = "failed" if cause.is_app_error else "incomplete"
        elif self.state is COMPLETED:
            outcome = "completed"
        closed_at = disconnect.since if disconnect is not None else None
        buffer = response.buffer if response is not None else Buffer(0, 1)
        first = buffer.stream_began
        recorded = response.recorded if response is not None else b""
        return StreamReport(
            stream_id=self._id,
            outcome=outcome,
            reason=cause.reason if cause is not None else None,
            error=error if cause is None or cause.error is None else cause.error,
            chunks=buffer.chunks,
            bytes_in=buffer.bytes_in,
            writes=response.writer.writes if response is not None else 0,
            bytes_sent=response.writer.bytes_sent if response is not None else 0,
            bytes_undelivered=buffer.undelivered,
            time_to_first_chunk=None if first is None else first - self._began,
            duration=now - self._began,
            longest_delay=buffer.longest_delay,
            cancel_latency=None if closed_at is None else now - closed_at,
            recorded=recorded,
            recorded_all=len(recorded) == buffer.bytes_in,
        )
