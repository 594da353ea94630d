"""The only caller of the server's `send` while a batched response streams."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from functools import partial
from inspect import CO_COROUTINE
from typing import Any, NamedTuple

import anyio

from ._buffer import Buffer, no_writer
from ._cause import WRITE_STALLED, Cause, of_failed_write
from ._keepalive import Keepalive
from ._loop import LazyTimer, Loop, Suspended, TimerQueue
from ._sse import KEEPALIVE_COMMENT
from ._types import Message, Send


class PendingMessage:
    """A message to write in order, between the batches. Its sender waits for the write."""

    __slots__ = ("done", "ends", "error", "has_waiter", "last", "message", "size")

    def __init__(
        self, message: Message | None, *, last: bool, ends: bool, size: int | None
    ) -> None:
        self.message = message
        """None: only the buffer is flushed."""
        self.last = last
        """True if the message ends the response and is joined with the buffered batch."""
        self.ends = ends
        """True if the message ends the response and is written unchanged."""
        self.size = size
        """Bytes of the body; None if the message has no body. Unused if `last`."""
        self.has_waiter = True
        """False once the sender has stopped waiting."""
        self.error: BaseException | None = None
        self.done = anyio.Event()


class SuspendedWrite(NamedTuple):
    """A write that the timer has begun and the task has to finish."""

    rest: Suspended
    size: int


class BatchWriter:
    """Writes batches when they are due, and other messages in order between them.

    One task makes one write at a time. A *producer* (a call of the app's `send`) never writes. It
    adds to the buffer, which calls `schedule`, or waits in `write_through`, `drain` or `wait_turn`.
    So cancelling a producer never interrupts a write, and a slow producer never blocks another.

    For a batch whose deadline has come, the task need not wake. Most servers take a write without
    waiting, so the timer's callback makes the write (`on_timer`). The task wakes only if the server
    has to wait for its client, and then waits for the end of that write. (On trio the task wakes
    for every write.)

    All writes run in one context, that of the task. So what one write leaves in a context variable
    is there for the next one, as it would be in the task of the app.

    `close` is `Exchange.close`. It is called with a `Cause` when a write fails or stalls, and with
    None when the last message is delivered.
    """

    __slots__ = (
        "_buffer",
        "_close",
        "_context",
        "_drained",
        "_keepalive",
        "_loop",
        "_parker",
        "_pending",
        "_queued_in",
        "_send",
        "_send_timeout",
        "_stall_timer",
        "_suspended",
        "_task",
        "_time",
        "_timer_queue",
        "_turn",
        "_write_began",
        "bytes_sent",
        "closed",
        "queued",
        "writes",
    )

    def __init__(
        self,
        send: Send,
        buffer: Buffer,
        loop: Loop,
        close: Callable[[Cause | None], None],
        *,
        send_timeout: float | None,
        keepalive_interval: float | None,
    ) -> None:
        self.closed = False
        """True once the writer is aborted, or has written the end of the response."""
        self.queued = 0
        """How many producers go before new chunks: the sender of the pending message, which `_run`
        subtracts once the message is written, and every producer in `wait_turn`."""
        self.writes = 0
        self.bytes_sent = 0
        self._send = as_coroutine_function(send)
        self._buffer = buffer
        self._loop = loop
        self._close = close
        self._send_timeout = send_timeout
        self._time = loop.time
        self._pending: PendingMessage | None = None
        self._suspended: SuspendedWrite | None = None
        self._drained: anyio.Event | None = None  # made when a producer waits for it
        self._turn: anyio.Lock | None = None  # made when a second producer waits, which is rare
        self._write_began: float | None = None
        self._timer_queue = loop.timer_queues(buffer.max_delay)
        self._queued_in: TimerQueue | None = None  # the queue with the deadline of this writer
        self._stall_timer = LazyTimer(loop, self._stall_timer_expired)
        self._keepalive: Keepalive | None = None
        if keepalive_interval is not None:
            self._keepalive = Keepalive(loop, keepalive_interval, self._wake_for_comment)
        self._context = copy_context()
        self._parker = loop.parker()
        self._task = loop.spawn(self._run, self._context)
        buffer.schedule = self.schedule

    # For producers.

    def schedule(self, now: float) -> None:
        """Wake the task if the batch is due, otherwise queue for its deadline."""
        deadline = self._buffer.deadline
        if deadline <= now:
            self._parker.unpark()
        elif self._queued_in is None:
            self._queued_in = self._timer_queue
            self._queued_in.add(self, deadline)

    def set_max_delay(self, max_delay: float) -> None:
        """Set another `max_delay`, also for the waiting batch if that makes the batch due
        earlier."""
        if self.closed:
            return
        now = self._time()
        self._buffer.set_max_delay(max_delay, now)
        self._timer_queue = self._loop.timer_queues(max_delay)
        if self._buffer.waiting:
            self._leave_timer_queue()
            self.schedule(now)

    @property
    def accepting(self) -> bool:
        """True if a producer may add a chunk or a message. Otherwise it waits in `wait_turn`."""
        return not self.queued and not self._buffer.full

    async def wait_turn(self) -> None:
        """Wait, first come first served, until no message is pending and the buffer is not full.

        Returns early if the writer is closed.
        """
        if self._turn is None:
            self._turn = anyio.Lock(fast_acquire=True)
        self._enter_queue()
        try:
            async with self._turn:
                while not self.closed and self._pending is not None:
                    await self._pending.done.wait()
                await self.drain()
        finally:
            self.queued -= 1

    def _enter_queue(self) -> None:
        self.queued += 1
        self._buffer.set_fast_path(is_open=False)

    async def drain(self) -> None:
        """Wait until the buffer is not full, or the writer is closed. This is the backpressure."""
        while self._buffer.full and not self.closed:
            if self._drained is None:
                self._drained = anyio.Event()
            self._parker.unpark()
            await self._drained.wait()

    async def write_through(
        self,
        message: Message | None,
        *,
        last: bool = False,
        ends: bool = False,
        size: int | None = None,
    ) -> None:
        """Write the buffered batch and then the message. Return when both are delivered.

        The arguments are those of `PendingMessage`. Raises what the write raises. Returns early if
        the writer is closed. A cancelled wait does not take the message back.
        """
        if self.closed:
            return
        assert self._pending is None, "one message at a time: wait_turn"
        pending = self._pending = PendingMessage(message, last=last, ends=ends, size=size)
        self._enter_queue()
        self._parker.unpark()
        try:
            await pending.done.wait()
        finally:
            pending.has_waiter = False
        if pending.error is not None:
            raise pending.error

    async def flush(self) -> None:
        """Write the buffered batch. Return when it is delivered. See `write_through`."""
        if not self.accepting:
            await self.wait_turn()
        await self.write_through(None)

    # The end.

    def abort(self) -> None:
        """Write nothing more, drop the buffer, wake all producers, and cancel the write in flight.

        However often this is called, the task is cancelled once: a second cancellation would cut
        off what the server's `send` awaits to clean up after the first.
        """
        if (suspended := self._suspended) is not None and suspended.rest.done():
            # The write has ended, and the task has not run since.
            try:
                suspended.rest.result()
            except BaseException:  # noqa: BLE001 (the write has failed, and is lost)
                pass
            else:
                self._written(suspended.size)
        self._buffer.drop()
        if not self.closed:
            self._stop()
            self._task.cancel()

    def _stop(self) -> None:
        self.closed = True
        self._buffer.schedule = no_writer
        if self._pending is not None:
            self._pending.done.set()
        self._wake_producers()
        self._leave_timer_queue()
        self._stall_timer.stop()
        if self._keepalive is not None:
            self._keepalive.stop()

    @property
    def stopped(self) -> bool:
        """True once the task has ended."""
        return self._task.done

    async def join(self, timeout: float) -> None:
        """Wait until the task has ended, at most `timeout` seconds."""
        await self._task.join(timeout)

    def release(self) -> None:
        """Drop what refers to this writer: the request is over."""
        self._stall_timer.release()
        if self._keepalive is not None:
            self._keepalive.release()
            self._keepalive = None

    # In the task.

    async def _run(self) -> None:
        try:
            while not self.closed:
                if (pending := self._pending) is not None:
                    await self._write_pending(pending)
                    self._pending = None
                    self.queued -= 1
                    if pending.last or (pending.ends and pending.error is None):
                        return  # no comment and no batch follows the end of the response
                elif self._buffer.waiting:
                    await self._write_batch(None)
                elif self._keepalive is not None and self._keepalive.due:
                    await self._write_comment()
                else:
                    try:
                        await self._parker.park()
                    except BaseException as error:
                        if self._suspended is None or isinstance(error, GeneratorExit):
                            raise
                        # The timer has begun a write: the cancellation is for the server's `send`.
                        self._suspended.rest.cancel()
                    if (suspended := self._suspended) is not None:
                        await self._finish_write(suspended.rest, suspended.size, None)
                        self._suspended = None
        except GeneratorExit:
            # A garbage collection closes this task. Its event loop may be closed, where an attempt
            # to wake somebody raises.
            self._pending = self._drained = None
            raise
        except BaseException as error:
            # `_finish_write` catches a failed write. Report any other exception, too: it would be
            # lost with this task. One example is a cancellation of all tasks of the event loop.
            if not self.closed:
                self._close(self._cause_of(error))
            # A cancellation ends here. The task would keep the cancellation, whose traceback refers
            # to this writer, which refers to the task: a circle of references.
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
        finally:
            self._suspended = None
            self._stop()

    async def _write_pending(self, pending: PendingMessage) -> None:
        """Write the waiting batch and then the message, then wake the sender of the message. The
        sender raises what the write raises."""
        message = pending.message
        if pending.last:
            assert message is not None  # only a flush has no message
            body = self._take(self._time()) if self._buffer.waiting else b""
            if body is not message.get("body", b""):
                message = {**message, "body": body}
            await self._write(message, len(body), pending)
        else:
            if self._buffer.waiting:
                await self._write_batch(pending)
            if message is not None and pending.error is None and not self.closed:
                if pending.size is not None:
                    self._buffer.add_unbuffered(pending.size, self._time())
                    if self._keepalive is not None:
                        self._keepalive.look_at(None)
                await self._write(message, pending.size, pending)
        if (pending.last or pending.ends) and pending.error is None and not self.closed:
            self._close(None)
        pending.done.set()

    async def _write_batch(self, pending: PendingMessage | None) -> None:
        body = self._take(self._time())
        await self._write(body_message(body), len(body), pending)

    async def _write_comment(self) -> None:
        await self._write(body_message(KEEPALIVE_COMMENT), len(KEEPALIVE_COMMENT), None)

    def _write(
        self, message: Message, size: int | None, pending: PendingMessage | None
    ) -> Awaitable[None]:
        """Make one write. `size`: bytes of its body, None if the message has no body."""
        if self._keepalive is not None:
            self._keepalive.due = False  # this write keeps the connection alive
        self._start_stall_timer(self._time())
        return self._finish_write(self._send(message), size, pending)

    async def _finish_write(
        self,
        write: Awaitable[None],
        size: int | None,
        pending: PendingMessage | None,
    ) -> None:
        try:
            await write
        except GeneratorExit:
            raise  # a garbage collection closes this task, with an event loop that is closed
        except BaseException as error:
            self._write_failed(error, pending)
            if not isinstance(error, Exception):
                raise
        else:
            self._written(size)

    # In the timer's callback: what the task would do, up to the first wait.

    def on_timer(self) -> None:
        """Write the batch whose deadline has come. Called by `TimerQueue`, whose timer serves many
        streams and has no context of its own."""
        self._queued_in = None
        if not self._parker.parked:
            return  # the task is awake, and sees the batch by itself
        if not self._loop.can_run_eagerly:
            self._parker.unpark()
            return
        now = self._time()
        body = self._take(now)
        try:
            rest = self._task.run_eagerly(self._send(body_message(body)))
        except BaseException as error:
            self._context.run(self._write_failed, error, None)  # calls the callbacks of the token
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
        else:
            if rest is None:
                self._written(len(body))
                return
            self._suspended = SuspendedWrite(rest, len(body))
            self._parker.unpark()
            if not self.closed:  # the server's `send` may have closed the stream
                self._context.run(self._start_stall_timer, now)

    # In both.

    def _take(self, now: float) -> bytes:
        """Take the waiting batch."""
        if self._queued_in is not None:
            self._leave_timer_queue()
        body = self._buffer.take(now)
        if self._keepalive is not None:
            self._keepalive.look_at(body)
        return body

    def _leave_timer_queue(self) -> None:
        if self._queued_in is not None:
            self._queued_in.discard(self)
            self._queued_in = None

    def _start_stall_timer(self, now: float) -> None:
        self._write_began = now
        if self._send_timeout is not None:
            self._stall_timer.reschedule(now + self._send_timeout)

    def _write_failed(self, error: BaseException, pending: PendingMessage | None) -> None:
        self._write_began = None
        lost = self._buffer.in_flight  # a stream with a hole in it must not go on
        self._buffer.send_failed()
        if self.closed:
            return
        cause = self._cause_of(error)
        if pending is not None:
            pending.error = error
            if cause.is_app_error and pending.has_waiter and not lost:
                return  # the waiting `send` raises the error: the stream stays open
        self._close(cause)
        if not self.closed:
            self.abort()  # the server has cancelled the request, and the rest was being written

    def _cause_of(self, error: BaseException) -> Cause:
        return of_failed_write(error, cancelled=self._task.cancel_requested)

    def _written(self, size: int | None) -> None:
        self._write_began = None
        if self.closed:
            return  # counted as lost, but the server's `send` has outlived its cancellation
        if self._keepalive is not None:
            self._keepalive.write_ended()
        self._buffer.sent()
        if size is not None:
            self.writes += 1
            self.bytes_sent += size
        if self._drained is not None:
            self._wake_producers()

    def _wake_producers(self) -> None:
        if self._drained is not None:
            self._drained.set()
            self._drained = None

    # The timers. Each callback returns the next deadline, or None.

    def _stall_timer_expired(self, now: float) -> float | None:
        if self._write_began is None or self._send_timeout is None:
            return None
        deadline = self._write_began + self._send_timeout
        if now < deadline:
            return deadline
        self._close(WRITE_STALLED)
        return None

    def _wake_for_comment(self) -> bool:
        """Wake the task and return True, if it has nothing to write. A comment must not come
        between a chunk and its write, nor queue behind a write in flight."""
        if not self._parker.parked or self._buffer.waiting:
            return False
        self._parker.unpark()
        return True


def body_message(body: bytes) -> Message:
    """Return an `http.response.body` message that is not the last one."""
    return {"type": "http.response.body", "body": body, "more_body": True}


def as_coroutine_function(send: Send) -> Callable[[Message], Coroutine[Any, Any, None]]:
    """Return `send` as a coroutine function, so that all of the call runs when it is awaited.

    A server, or a middleware around this one, may define `send` as a plain function that returns an
    awaitable, or in Cython.
    """
    code = getattr(getattr(send, "__func__", send), "__code__", None)
    if code is not None and code.co_flags & CO_COROUTINE:
        return send  # type: ignore[return-value]
    return partial(_send_and_await, send)


async def _send_and_await(send: Send, message: Message) -> None:
    await send(message)
