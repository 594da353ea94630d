"""One request that streams, or whose token was asked for: its `send`, its state, and `close`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from dataclasses import replace
from functools import partial
from typing import Any, Final

from ._cause import CLIENT_LEFT, SERVER_CANCELLED, Cause, of_failed_write
from ._disconnect import Disconnect, sends_for_a2wsgi
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

logger: Final = logging.getLogger("sse_batching")

LAST_WRITE_TIME: Final = 1.0
"""Seconds that the last write may still take after `http.disconnect`. hypercorn on trio says
`http.disconnect` just before the last write returns. hypercorn with HTTP/2 never returns from the
last write of a client that has left."""


class Exchange:
    """One request that streams, or whose token was asked for. Owns the state of the request.

    Data goes down by calls, from `send` to the response, its buffer and its writer. One signal
    comes up: `close`.
    """

    __slots__ = (
        "_configured",
        "_disconnect",
        "_last_write_timer",
        "_latency",
        "_scope",
        "_server_send",
        "_streaming",
        "_time",
        "_waiting_sends",
        "app_task",
        "began",
        "id",
        "loop",
        "options",
        "receiver",
        "response",
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
        self.receiver = receiver
        self.options = options
        self._configured: dict[str, Any] | None = None  # by `Stream.configure`: wins over `options`
        self.loop = loop
        self.app_task = app_task
        self.id = id
        self.began = began
        self._time = loop.time
        self._latency = loop.latency
        self.response: BatchedResponse | None = None
        self._streaming: BatchedResponse | None = None  # the response, while STREAMING
        self._disconnect: Disconnect | None = None  # made by a token, or by an early end
        self._waiting_sends = 0  # calls of the app's `send` that wait in this package
        self._last_write_timer: LazyTimer | None = None

    # For the code that serves the request.

    def watch_for_token(self, token: CancellationToken, *, grace: bool) -> None:
        """Cancel this token when the request ends early. From now on, watch the server's `receive`
        for that. `grace`: the app has asked for its grace period."""
        self.disconnect.set_token(token, grace=grace)
        if self.state is not COMPLETED:
            self.receiver.watch(self.close)

    async def flush(self) -> None:
        """See `Stream.flush`."""
        if self.state is CLOSED:
            self.disconnect.reject_or_ignore(waited=False)
        elif self.state is STREAMING and self.response is not None:
            await self._wait_for(self.response.writer.flush())

    def configure(self, max_delay: float | None, enabled: bool | None) -> None:
        """See `Stream.configure`."""
        changed = dict(self._configured or ())
        if max_delay is not None:
            changed["max_delay"] = max_delay
        if enabled is not None:
            changed["batching"] = enabled
        self._configured = changed
        self.options = replace(self.options, **changed)
        if self.response is not None:
            self.response.configure(self.options)

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
                if is_batched(self._scope, message, self.options.media_types):
                    await self.start(message)
                    return
                self.move(PASSING)
        elif self.state is PASSING and ends_response(message):
            self.move(COMPLETED)  # before the write, as in `RequestContext.send`
        try:
            await self._server_send(message)
        except Exception as error:
            cause = of_failed_write(error)
            # The task that sends may outlive its app. Nobody listens to `close` then.
            if not cause.is_app_error and not self.app_task.ended:
                self.close(cause)
            raise
        if self.receiver.expects_continue and message["type"] == START:
            self.receiver.response_started()

    async def start(self, message: Message) -> None:
        """Start a batched response with this `http.response.start`. If the client has left before,
        close the response instead."""
        if sends_for_a2wsgi(self.loop.current_task()):
            self.disconnect.only_signals = True
        if self.state is ABANDONED:
            self.move(CLOSED)
            self.disconnect.must_stop = True
            self.disconnect.notify_app()
            await self._send_late(message)
            return
        response = self._open(message)
        await self._wait_for(response.writer.write_through(message))
        if self.receiver.expects_continue:
            self.receiver.response_started()

    def _open(self, start: Message) -> BatchedResponse:
        """Make the batched response that begins with `start`, and watch for the end of it."""
        self.move(STREAMING)
        close = self.close  # one bound method for both
        merger = merger_for(self._scope, start, self.options)
        response = BatchedResponse(self._server_send, start, self.options, self.loop, merger, close)
        self.response = self._streaming = response
        self.receiver.watch(close)
        return response

    def continue_inside(self, start: Message, scope: Scope, send: Send, options: Options) -> None:
        """Batch the rest of a response that was PASSING, for an inner middleware. See
        `RequestContext.move_exchange`."""
        self._scope, self._server_send = scope, send
        self.options = replace(options, **(self._configured or {}))
        if self._disconnect is not None:
            self._disconnect.grace_period = options.grace_period
        self._open(start)

    async def write_rest(self) -> None:
        """Write what is buffered: the app has ended.

        This does not go through `send`, which would keep an exception after the tracebacks were
        cleared. On trio the app's generator would stay suspended.
        """
        response = self.response
        if response is None or response.writer.closed:
            return
        try:
            await response.writer.flush()
        except Exception as error:  # noqa: BLE001 (no `send` is left that could raise it)
            self.close(of_failed_write(error))

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
        if self.state is not CLOSED and self.response is not None:
            await self.response.writer.wait_turn()
        if self.state is CLOSED:
            await self.disconnect.reject_or_ignore_late(message)
        else:
            # The server accepts trailers. For anything else it raises.
            await self._server_send(message)

    def receive_failed(self, error: BaseException) -> None:
        """Close the stream if the server has cancelled the request while the app was in `receive`.

        `error`: what the app's `receive` raises.
        """
        if self.receiver.watching and not isinstance(error, Exception):
            self.disconnect.clear_traceback_later(error)
            self.app_task.if_cancelled_outside(partial(self.close, SERVER_CANCELLED))

    @property
    def batches(self) -> bool:
        """True once a batched response has started."""
        return self.response is not None

    # The end of the response.

    @property
    def disconnect(self) -> Disconnect:
        """The object that handles an early end. Made on first use."""
        if self._disconnect is None:
            self._disconnect = Disconnect(
                self.loop, self.app_task, self.receiver, self.options.grace_period
            )
        return self._disconnect

    @property
    def cause(self) -> Cause | None:
        """Why the request ended early, once it did. Safe in any thread."""
        return self._disconnect.cause if self._disconnect is not None else None

    @property
    def ended_early_at(self) -> float | None:
        """When the cause came, on the clock of the event loop."""
        return self._disconnect.since if self._disconnect is not None else None

    @property
    def stopped_by(self) -> Cause | None:
        """See `Disconnect.stopped_by`."""
        return self._disconnect.stopped_by if self._disconnect is not None else None

    def move(self, state: State) -> None:
        """Change the state. Only this method changes the state of an exchange."""
        assert state in TRANSITIONS[self.state], f"{self.state} -> {state}"
        self.state = state
        self._streaming = None
        if state is COMPLETED:
            self.receiver.unwatch()

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
            self._last_write_timer = LazyTimer(self.loop, self._last_write_timed_out)
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
        response = self.response
        # If the server has cancelled the request, the client may still be there: `finish` writes
        # what is buffered.
        if response is not None and cause.reason is not CancelReason.SERVER_SHUTDOWN:
            response.writer.abort()
        self.receiver.give_up()
        # A waiting `send` must return first: then the framework cancels its generator at an `await`
        # of the generator's own. `reject_or_ignore` notifies the app then. For an app that
        # asked for its token, `notify_app` only starts the grace period.
        if disconnect.token_requested or not self._waiting_sends:
            disconnect.notify_app()
        logger.info(
            "stream %s: %s (%s) after %.3f s, %d bytes sent, %d undelivered",
            self.id,
            cause.message,
            cause.reason,
            self._time() - self.began,
            response.writer.bytes_sent if response is not None else 0,
            response.buffer.undelivered if response is not None else 0,
        )

    # The end of the request. `_finish` decides in which order.

    def stop_notifying(self) -> None:
        """Stop the timers that notify or cancel the app."""
        if self._disconnect is not None:
            self._disconnect.stop()

    def clear_kept_tracebacks(self, *, frames: bool) -> None:
        """See `Disconnect.clear_kept_tracebacks`."""
        if self._disconnect is not None:
            self._disconnect.clear_kept_tracebacks(frames=frames)

    def stop(self) -> None:
        """Stop writing and watching, and cancel the tasks of this package. `stopped` is True once
        these tasks have ended.

        A task that the app left behind sends to the server directly from now on (PASSING).
        """
        if self.state is STREAMING:
            self.move(PASSING)
        if self.response is not None:
            self.response.writer.abort()
        self.receiver.stop()
        if self._last_write_timer is not None:
            self._last_write_timer.stop()
        self.stop_notifying()

    @property
    def stopped(self) -> bool:
        """True if no task of this package is left."""
        return self.receiver.stopped and (self.response is None or self.response.writer.stopped)

    def release(self) -> None:
        """Drop the parts that refer to the app or to the server's messages: the request is over."""
        self._scope = {}
        if self.response is not None:
            self.response.writer.release()
            self.response = None
        self._last_write_timer = None
        self.receiver.release()
        if self._disconnect is not None:
            self._disconnect.release()
