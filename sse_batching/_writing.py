"""One task that writes: batches when they are due, other messages in their place between them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

import anyio

from ._coalescing import Coalescer
from ._framing import KEEPALIVE_COMMENT, TAIL_LENGTH, at_event_boundary
from ._scheduling import Alarm, Deadlines, Rest, Scheduler

T = TypeVar("T")

_UNKNOWN_TAIL: Final = b"?"


class Sink(Protocol[T]):
    """What the writer works for: it makes the messages, delivers them, and hears of failures."""

    def batch(self, body: bytes) -> T:
        """A message with these bytes in it, and more to come."""

    def last(self, body: bytes, message: T) -> T:
        """The last message, with these bytes in it."""

    @property
    def write(self) -> Callable[[T], Awaitable[None]]:
        """Delivers a message: returns when the server has taken it."""

    def last_written(self) -> None:
        """The last message is delivered."""

    def write_failed(self, error: BaseException, *, told: bool) -> None:
        """A write raised. `told`: somebody waits for it, and is going to raise the error."""

    def write_stalled(self) -> None:
        """A write has taken as long as `send_timeout`."""


class Delivery(Generic[T]):
    """A message that has its place in the order, and somebody who waits until it is delivered."""

    __slots__ = ("done", "ends", "error", "last", "message", "size", "waited_for")

    def __init__(self, message: T | None, *, last: bool, ends: bool, size: int | None) -> None:
        self.message = message  # None: only what is buffered
        self.last = last  # goes out in one with what is buffered
        self.ends = ends  # ends the response too, but as it is
        self.size = size  # of the body of one that is not the last; None if it has none
        self.waited_for = True
        self.error: BaseException | None = None
        self.done = anyio.Event()


class Started(NamedTuple):
    """A write that has begun, and has to wait for the server."""

    rest: Rest
    size: int

    def finish(self) -> Awaitable[None]:
        return self.rest


class BatchWriter(Generic[T]):
    """The only writer of one stream. Its one task makes one write at a time.

    A producer (`attend`, `deliver`, `room`) never writes by itself. So whatever befalls a producer,
    a cancellation say, no write is cut in two by it; and one that is slow does not hold up others.

    The task need not be woken for a batch whose deadline has come: most servers take a write
    without waiting, and then the timer's callback makes it, in the name of the task.
    """

    __slots__ = (
        "_coalescer",
        "_comment_due",
        "_context",
        "_deadlines",
        "_delivery",
        "_flush_timer",
        "_keepalive_alarm",
        "_keepalive_interval",
        "_line",
        "_parker",
        "_room",
        "_scheduler",
        "_send_timeout",
        "_sink",
        "_stall_alarm",
        "_started",
        "_tail",
        "_task",
        "_time",
        "_write_began",
        "_write_ended",
        "bytes_sent",
        "claims",
        "over",
        "writes",
    )

    def __init__(
        self,
        sink: Sink[T],
        coalescer: Coalescer,
        scheduler: Scheduler,
        *,
        send_timeout: float | None,
        keepalive_interval: float | None,
    ) -> None:
        self.writes = 0
        self.bytes_sent = 0
        self._sink = sink
        self._coalescer = coalescer
        self._time = scheduler.time
        self._send_timeout = send_timeout
        self._keepalive_interval = keepalive_interval
        self._parker = scheduler.parker()
        self._delivery: Delivery[T] | None = None
        self._comment_due = False
        self.over = False
        """Whether nothing more will be written: the last message was, or the writer is aborted."""
        self._room: anyio.Event | None = None
        self._line: anyio.Lock | None = None  # made when there is a queue, which is seldom
        self.claims = 0
        """How many go first, before anything more may be added: a message on its way, and those who
        stand in line."""
        self._write_began: float | None = None
        self._write_ended = self._time()
        self._tail = b""
        self._scheduler = scheduler
        self._deadlines = scheduler.deadlines(coalescer.max_delay)
        self._flush_timer: Deadlines | None = None  # where the waiting batch waits, if it does
        self._context = copy_context()
        self._started: Started | None = None
        self._stall_alarm = Alarm(scheduler, self._stall_due)
        self._keepalive_alarm = Alarm(scheduler, self._keepalive_due)
        if keepalive_interval is not None:
            self._keepalive_alarm.ring_at(self._write_ended + keepalive_interval)
        self._task = scheduler.spawn(self._run)

    # The producers' side.

    @property
    def accepting(self) -> bool:
        """Whether something may be added now. If not, `line_up` for it."""
        return not self.claims and not self._coalescer.full

    async def line_up(self) -> None:
        """Wait for one's turn: first come, first served, as long as no message is under way and
        there is room. Returns early if the writer is aborted."""
        if self._line is None:
            self._line = anyio.Lock(fast_acquire=True)
        self._claim()
        try:
            async with self._line:
                while not self.over and self._delivery is not None:
                    await self._delivery.done.wait()
                await self.room()
        finally:
            self.claims -= 1

    def _claim(self) -> None:
        self.claims += 1
        self._coalescer.is_open = False

    def attend(self, now: float) -> None:
        """Something waits: see to it that it is written in time."""
        if self._coalescer.deadline <= now:
            self._parker.unpark()
        elif self._flush_timer is None:
            self._flush_timer = self._deadlines
            self._flush_timer.add(self, self._coalescer.deadline)

    def set_delay(self, max_delay: float) -> None:
        """Set another `max_delay`, for what waits too."""
        before, now = self._coalescer.deadline, self._time()
        self._coalescer.set_delay(max_delay, now)
        self._deadlines = self._scheduler.deadlines(max_delay)
        if self._coalescer.deadline < before:
            self._stop_flush_timer()
            self.attend(now)

    def _stop_flush_timer(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.discard(self)
            self._flush_timer = None

    async def room(self) -> None:
        """Wait until the buffer has room again, or the writer is aborted."""
        while self._coalescer.full and not self.over:
            if self._room is None:
                self._room = anyio.Event()
            self._parker.unpark()
            await self._room.wait()

    async def deliver(
        self,
        message: T | None,
        *,
        last: bool = False,
        ends: bool = False,
        size: int | None = None,
    ) -> None:
        """Write what is buffered and then the message, and return when both are delivered.

        The `last` message goes out in one write with what is buffered, its own bytes among it.
        `size` is that of the body of another one, if it has one. Raises what the write raises.
        Returns early if the writer is aborted. A wait that is cancelled takes nothing back.
        """
        if self.over:
            return
        assert self._delivery is None, "one message at a time: line up"
        delivery = self._delivery = Delivery(message, last=last, ends=ends, size=size)
        self._claim()
        self._parker.unpark()
        try:
            await delivery.done.wait()
        finally:
            delivery.waited_for = False
        if delivery.error is not None:
            raise delivery.error

    async def flush(self) -> None:
        """Write what is buffered, and return when it is delivered, as `deliver` does."""
        if not self.accepting:
            await self.line_up()
        await self.deliver(None)

    def abort(self) -> None:
        """Write nothing more, wake all who wait, and cut the write in flight short."""
        self._end()
        self._task.cancel()

    def _end(self) -> None:
        self.over = True
        if self._delivery is not None:
            self._delivery.done.set()
        self._wake_producers()
        self._stop_flush_timer()
        self._stall_alarm.stop()
        self._keepalive_alarm.stop()

    @property
    def stopped(self) -> bool:
        """Whether the task has ended."""
        return self._task.done

    async def join(self, timeout: float) -> None:
        """Wait for the end of the task, at most so long."""
        await self._task.join(timeout)

    # The task's side.

    async def _run(self) -> None:
        try:
            while True:
                if (started := self._started) is not None:
                    self._started = None
                    await self._finish(started.finish, started.size, None)
                elif (delivery := self._delivery) is not None:
                    await self._write_delivery(delivery)
                    self._delivery = None
                    self.claims -= 1
                    if delivery.last:
                        return
                elif self._coalescer.waiting:
                    await self._write_batch(None)
                elif self._comment_due:
                    await self._write_comment()
                else:
                    await self._parker.park()
        except BaseException as error:
            # Not a failed write: those are caught where they are made. But no failure may die in
            # here, and somebody may cancel all the tasks of the loop.
            if not self.over:
                self._sink.write_failed(error, told=False)
            if not isinstance(error, Exception):
                raise
        finally:
            self._end()
            self._give_up_started()

    async def _write_delivery(self, delivery: Delivery[T]) -> None:
        """Never raises for what a write raises: that goes to the one who waits."""
        message = delivery.message
        if delivery.last:
            assert message is not None  # a last one always has a message
            body = self._take(self._time()) if self._coalescer.waiting else b""
            await self._write(self._sink.last(body, message), len(body), delivery)
        else:
            if self._coalescer.waiting:
                await self._write_batch(delivery)
            if message is not None and delivery.error is None:
                if delivery.size is not None:
                    self._coalescer.passed(delivery.size)
                    self._tail = _UNKNOWN_TAIL
                await self._write(message, delivery.size, delivery)
        if (delivery.last or delivery.ends) and delivery.error is None and not self.over:
            self._sink.last_written()
        delivery.done.set()

    async def _write_batch(self, delivery: Delivery[T] | None) -> None:
        body = self._take(self._time())
        await self._write(self._sink.batch(body), len(body), delivery)

    async def _write_comment(self) -> None:
        self._comment_due = False
        await self._write(self._sink.batch(KEEPALIVE_COMMENT), len(KEEPALIVE_COMMENT), None)

    def _write(self, message: T, size: int | None, delivery: Delivery[T] | None) -> Awaitable[None]:
        """Make one write; `size` is that of its body, None if it is no body message."""
        self._begin_wait(self._time())
        return self._finish(partial(self._sink.write, message), size, delivery)

    async def _finish(
        self,
        write: Callable[[], Awaitable[None]],
        size: int | None,
        delivery: Delivery[T] | None,
    ) -> None:
        """Wait for the end of a write that may stall from now on, or has begun already."""
        try:
            await write()
        except BaseException as error:
            self._failed(error, delivery)
            if not isinstance(error, Exception):
                raise
        else:
            self._written(size)

    # The timer's side: what the task would do, as long as there is nothing to wait for.

    def due(self) -> None:
        """The deadline of the waiting batch has come (`Waiter`)."""
        self._flush_timer = None
        if self._parker.parked:  # or the task is awake, and looks by itself
            # The timer serves many streams: each in the context of its own request.
            self._context.run(self._start_batch)

    def _start_batch(self) -> None:
        now = self._time()
        body = self._take(now)
        try:
            rest = self._task.start(self._sink.write(self._sink.batch(body)))
        except BaseException as error:
            self._failed(error, None)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
        else:
            if rest is None:
                self._written(len(body))
            else:
                self._begin_wait(now)
                self._started = Started(rest, len(body))
                self._parker.unpark()

    def _give_up_started(self) -> None:
        """Close a write that has begun, if nobody will wait for it any more."""
        if self._started is not None:
            self._started.rest.close()
            self._started = None

    # What both do.

    def _take(self, now: float) -> bytes:
        """Take the batch that waits."""
        if self._flush_timer is not None:
            self._stop_flush_timer()
        self._comment_due = False  # these bytes are sign of life enough, and may be half an event
        body = self._coalescer.take(now)
        if self._keepalive_interval is not None:
            self._tail = (self._tail + body[-TAIL_LENGTH:])[-TAIL_LENGTH:]
        return body

    def _begin_wait(self, now: float) -> None:
        """From now on a write may stall."""
        self._write_began = now
        if self._send_timeout is not None:
            self._stall_alarm.ring_at(now + self._send_timeout)

    def _failed(self, error: BaseException, delivery: Delivery[T] | None) -> None:
        self._write_began = None
        self._coalescer.send_failed()
        if not self.over:
            told = delivery is not None and delivery.waited_for
            if delivery is not None:
                delivery.error = error
            self._sink.write_failed(error, told=told)

    def _written(self, size: int | None) -> None:
        self._write_began = None
        if self.over:  # given up, and counted as lost, before a server that cannot be cancelled
            return
        if self._keepalive_interval is not None:
            self._write_ended = self._time()
        self._coalescer.sent()
        if size is not None:
            self.writes += 1
            self.bytes_sent += size
        if self._room is not None:
            self._wake_producers()

    def _wake_producers(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    # The timers: each says when it wants to ring next, or None.

    def _stall_due(self, now: float) -> float | None:
        if self._write_began is None or self._send_timeout is None:
            return None
        due = self._write_began + self._send_timeout
        if now < due:
            return due
        self._sink.write_stalled()
        return None

    def _keepalive_due(self, now: float) -> float | None:
        assert self._keepalive_interval is not None  # or the alarm would not be set
        due = self._write_ended + self._keepalive_interval
        if now < due:
            return due
        # Not between a chunk and its write, and not behind a write that is under way.
        if self._parker.parked and not self._coalescer.waiting and at_event_boundary(self._tail):
            self._comment_due = True
            self._parker.unpark()
        return now + self._keepalive_interval
