"""The only caller of the server's `receive`: for the app, and to notice when the client leaves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

import anyio

from ._cause import CLIENT_LEFT, Cause
from ._loop import Interruptible, Loop, Task
from ._types import Message, Receive

READ_AHEAD: Final = 65_536
"""Bytes of the request body that are read before the app asks for them, as many as uvicorn's own
flow control accepts. Beyond that the client waits, and a disconnect is noticed only when the app
reads on."""

MESSAGE_OVERHEAD: Final = 512
"""Bytes counted for each message in addition to its body: some servers repeat an empty message
endlessly."""

DISCONNECT: Final[Message] = {"type": "http.disconnect"}


class Reading(Enum):
    """Who is waiting in the server's `receive`. Never two: if two tasks wait there, servers split
    or repeat the body, or invent a disconnect (granian)."""

    NOBODY = auto()
    APP = auto()
    """A call of the app's went straight to the server. A short request costs no more than that."""
    WATCH = auto()
    """The task that reads ahead."""
    ENDED = auto()
    """Nothing more is read: the client is gone, or the task that reads ahead failed."""


class Receiver:
    """Passes every message of the server's to the app, in order, and watches for `http.disconnect`.

    Every call of the app's after `http.disconnect` gets the disconnect again, also on servers that
    say it once (hypercorn, daphne). While the app is not reading and nobody watches, nothing is
    read.
    """

    __slots__ = (
        "_app_read",
        "_backlog",
        "_changed",
        "_close",
        "_disconnect",
        "_error",
        "_loop",
        "_queue",
        "_reading",
        "_receive",
        "_stopped",
        "_task",
        "_waiting",
        "_withholds_disconnect",
        "expects_continue",
    )

    def __init__(self, receive: Receive, loop: Loop, *, expects_continue: bool = False) -> None:
        self._receive = receive
        self._loop = loop
        self.expects_continue = expects_continue
        """True until the app reads or starts its response, if the client expects "100 Continue"."""
        self._reading = Reading.NOBODY
        self._close: Callable[[Cause], None] | None = None  # set while the receiver watches
        self._stopped = False
        self._task: Task | None = None
        self._queue: deque[Message] | None = None  # messages read ahead
        self._backlog = 0  # bytes of the queue
        self._waiting = 0  # calls of the app's that wait for a message of the queue
        self._withholds_disconnect = True  # until the app may see `http.disconnect`
        self._disconnect: Message = DISCONNECT
        self._app_read: Interruptible | None = None
        self._changed: anyio.Event | None = None
        self._error: Exception | None = None

    @property
    def watching(self) -> bool:
        """True from `watch` until `unwatch` or `stop`."""
        return self._close is not None

    @property
    def app_waits(self) -> bool:
        """True while a task of the app's is waiting in `receive`."""
        return self._waiting > 0 or self._reading is Reading.APP

    def watch(self, close: Callable[[Cause], None]) -> None:
        """Call `close` when the client leaves; now, if it has already left."""
        if self._close is not None or self._stopped:
            return
        self._close = close
        if self._reading is Reading.ENDED:
            if self._error is None:
                close(CLIENT_LEFT)
        else:
            self._read_on()

    def response_started(self) -> None:
        """Read ahead from now on, if the receiver watches: the body of a request that expects "100
        Continue" need not be invited any more."""
        self.expects_continue = False
        self._read_on()

    def unwatch(self) -> None:
        """Stop watching: the response is complete. The app sees a disconnect when it comes."""
        self._close = None
        self.deliver_disconnect()

    def deliver_disconnect(self) -> None:
        """Let the app receive `http.disconnect`: now if the client is gone, or else when it
        leaves."""
        self._withholds_disconnect = False
        self._wake()

    def give_up(self) -> None:
        """Read nothing more: the client is lost, whether or not the server ever says so."""
        self._reading = Reading.ENDED
        if self._task is not None:
            self._task.cancel()
        if self._app_read is not None:
            self._app_read.interrupt()

    def stop(self) -> None:
        """Stop watching for good, and cancel the task that reads ahead.

        A task of the app's that outlives the app, and waits in `receive`, sees the disconnect.
        """
        self._stopped = True
        self._close = None
        self.deliver_disconnect()
        if self._task is not None:
            self._task.cancel()

    def release(self) -> None:
        """Drop the task that has read ahead: its context refers to the request."""
        self._task = None

    @property
    def stopped(self) -> bool:
        """True if no task reads ahead."""
        return self._task is None or self._task.done

    async def join(self, timeout: float) -> None:
        """Wait until no task reads ahead, at most `timeout` seconds."""
        if self._task is not None:
            await self._task.join(timeout)

    # For the app.

    async def receive(self) -> Message:
        """Return the next message. The `receive` that the app is given calls this."""
        if self._reading is Reading.NOBODY and not self._queue:
            return await self._read_for_app()
        return await self._next()

    async def _read_for_app(self) -> Message:
        self._reading = Reading.APP
        read = self._app_read = self._loop.interruptible()
        try:
            with read:
                message = await self._receive()
        except GeneratorExit:
            raise  # as in `_read_ahead`
        except BaseException:
            if self._reading is Reading.APP:
                self._reading = Reading.NOBODY
            self._app_call_ended()
            raise
        finally:
            self._app_read = None
        if read.interrupted:
            return await self._next()
        if message["type"] == "http.disconnect":
            self._waiting += 1  # the app still waits: `close` reads `app_waits`
            try:
                self._client_left(message)
            finally:
                self._waiting -= 1
            return await self._next()
        if self._reading is Reading.APP:
            self._reading = Reading.NOBODY
        self._app_call_ended()
        return message

    async def _next(self) -> Message:
        """Return the next message: from the queue, from the server if nobody reads there, or the
        disconnect. Wait until there is one."""
        while True:
            if self._queue:
                message = self._queue.popleft()
                self._backlog -= _weight(message)
                self._wake()  # the task that reads ahead may wait for the backlog to shrink
                return message
            if self._reading is Reading.ENDED:
                if self._error is not None:
                    raise self._error
                if not self._withholds_disconnect:
                    return dict(self._disconnect)
            elif self._reading is Reading.NOBODY:
                return await self._read_for_app()
            self._waiting += 1
            try:
                await self._change()
            except GeneratorExit:
                raise  # as in `_read_ahead`
            except BaseException:
                self._app_call_ended()
                raise
            finally:
                self._waiting -= 1

    def _app_call_ended(self) -> None:
        """Let the task that reads ahead read on; if nobody watches, another call of the app's."""
        self.expects_continue = False  # the app has read, so the body was invited
        self._read_on()
        self._wake()

    # The watch.

    def _read_on(self) -> None:
        """Start the task that reads ahead, if the receiver watches and nobody else reads."""
        if self._close is None or self.expects_continue or self._reading is not Reading.NOBODY:
            return
        self._reading = Reading.WATCH
        self._task = self._loop.spawn(self._read_ahead)

    async def _read_ahead(self) -> None:
        try:
            while True:
                while self._backlog >= READ_AHEAD:
                    await self._change()
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    self._client_left(message)
                    return
                if self._queue is None:  # made late: an empty deque takes 760 bytes
                    self._queue = deque()
                self._queue.append(message)
                self._backlog += _weight(message)
                self._wake()
        except GeneratorExit:
            # A garbage collection closes this task. Its event loop may be closed, where an attempt
            # to wake somebody raises.
            self._changed = None
            raise
        except Exception as error:  # noqa: BLE001
            # Raised in the app's next `receive`, where the app would see it without the middleware.
            self._error = error
            self._reading = Reading.ENDED
        finally:
            if self._reading is Reading.WATCH:  # cancelled from outside: the app may read on
                self._reading = Reading.NOBODY
            self._wake()

    def _client_left(self, message: Message) -> None:
        self._disconnect = message
        self._reading = Reading.ENDED
        if self._close is None:
            self.deliver_disconnect()
        else:
            self._close(CLIENT_LEFT)

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


def _weight(message: Message) -> int:
    return len(message.get("body", b"")) + MESSAGE_OVERHEAD
