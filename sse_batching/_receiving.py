"""The only reader of the server's `receive`: for the app, and to notice when the client leaves."""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import Final, Protocol

import anyio

from ._scheduling import Interruptible, Scheduler, Task
from ._typing import Message, Receive

READ_AHEAD: Final = 65_536
"""Bytes of the request body that are read before the app asks for them: what uvicorn's own flow
control lets in. Beyond it the client waits, and its leaving is not seen until the app reads on."""

MESSAGE_OVERHEAD: Final = 512
"""Bytes that a message without a body counts for: some servers repeat an empty one for ever."""


class Reading(Enum):
    """Who is in the server's `receive`. There must never be two: servers split or repeat the body,
    or invent a disconnect (granian), when two tasks wait there."""

    NOBODY = auto()
    APP = auto()
    """A call of the app's goes straight through: what a short request does, at no cost."""
    WATCH = auto()
    """Our own task reads ahead."""
    OVER = auto()
    """`http.disconnect` came, or `receive` raised. There is nothing more to read."""


class Watcher(Protocol):
    """Who wants to know."""

    def client_left(self) -> None:
        """The server has said `http.disconnect`. Call `hand_over` when the app may see it."""

    def receive_cancelled(self, error: BaseException) -> None:
        """A call of the app's was cancelled, by this, while it waited here."""


class Receiver:
    """Hands the server's messages to the app, every one and in order, and watches for the last.

    `http.disconnect` is handed to every call that comes after it, also on servers that say it once
    (hypercorn, daphne). While the app wants nothing and nobody watches, nothing is read.
    """

    __slots__ = (
        "_app_read",
        "_backlog",
        "_changed",
        "_disconnect",
        "_error",
        "_handed_over",
        "_queue",
        "_reading",
        "_receive",
        "_scheduler",
        "_task",
        "_waiting",
        "_watcher",
    )

    def __init__(self, receive: Receive, scheduler: Scheduler) -> None:
        self._receive = receive
        self._scheduler = scheduler
        self._reading = Reading.NOBODY
        self._watcher: Watcher | None = None
        self._task: Task | None = None
        self._queue: deque[Message] | None = None  # None: nobody has read ahead
        self._backlog = 0
        self._waiting = 0
        self._handed_over = False
        self._disconnect: Message = {"type": "http.disconnect"}
        self._app_read: Interruptible | None = None
        self._changed: anyio.Event | None = None
        self._error: Exception | None = None

    async def receive(self) -> Message:
        """The `receive` that the app is given."""
        if self._reading is Reading.NOBODY and not self._queue:
            return await self._read_for_app()
        return await self._next()

    @property
    def watched(self) -> bool:
        """Whether somebody watches."""
        return self._watcher is not None

    @property
    def app_waits(self) -> bool:
        """Whether a task of the app's is waiting in `receive`."""
        return self._waiting > 0 or self._reading is Reading.APP

    def watch(self, watcher: Watcher) -> None:
        """Tell the watcher when the client leaves; at once, if it has left already."""
        if self._watcher is not None:
            return
        self._watcher = watcher
        if self._reading is Reading.OVER:
            if self._error is None:
                watcher.client_left()
        else:
            self._read_on()

    def hand_over(self) -> None:
        """The app may see `http.disconnect` now, if the server has said it, or else as it comes."""
        self._handed_over = True
        self._wake()

    def give_up(self) -> None:
        """Read nothing more: the client is lost, whether or not the server ever says so."""
        self._reading = Reading.OVER
        if self._task is not None:
            self._task.cancel()
        if self._app_read is not None:
            self._app_read.interrupt()

    def unwatch(self) -> None:
        """Tell nobody any more: the response is complete. The app may see what comes."""
        self._watcher = None
        self.hand_over()

    def stop(self) -> None:
        """End the watch."""
        self._watcher = None
        if self._task is not None:
            self._task.cancel()

    @property
    def stopped(self) -> bool:
        """Whether nothing of the watch is left."""
        return self._task is None or self._task.done

    async def join(self, timeout: float) -> None:
        """Wait for the end of the watch, at most so long."""
        if self._task is not None:
            await self._task.join(timeout)

    # For the app.

    async def _read_for_app(self) -> Message:
        self._reading = Reading.APP
        read = self._app_read = self._scheduler.interruptible()
        try:
            with read:
                message = await self._receive()
        except BaseException as error:
            if self._reading is Reading.APP:
                self._reading = Reading.NOBODY
            self._app_call_ended(error)
            raise
        finally:
            self._app_read = None
        if read.interrupted:
            return await self._next()
        if message["type"] == "http.disconnect":
            self._waiting += 1  # as long as nobody has told it
            try:
                self._over(message)
            finally:
                self._waiting -= 1
            return await self._next()
        if self._reading is Reading.APP:
            self._reading = Reading.NOBODY
        self._app_call_ended(None)
        return message

    async def _next(self) -> Message:
        """The next message of the queue; waits for one."""
        while True:
            if self._queue:
                message = self._queue.popleft()
                self._backlog -= _weight(message)
                self._wake()  # the watch may wait for room
                return message
            if self._reading is Reading.OVER:
                if self._error is not None:
                    raise self._error
                if self._handed_over:
                    return dict(self._disconnect)
            elif self._reading is Reading.NOBODY:
                return await self._read_for_app()
            self._waiting += 1
            try:
                await self._change()
            except BaseException as error:
                self._app_call_ended(error)
                raise
            finally:
                self._waiting -= 1

    def _app_call_ended(self, error: BaseException | None) -> None:
        """Another call of the app's takes over, or the watch does."""
        if error is not None and not isinstance(error, Exception) and self._watcher is not None:
            self._watcher.receive_cancelled(error)
        self._read_on()
        self._wake()

    # The watch.

    def _read_on(self) -> None:
        """See to it that somebody reads, if somebody watches."""
        if self._watcher is None or self._reading is not Reading.NOBODY:
            return
        self._reading = Reading.WATCH
        self._task = self._scheduler.spawn(self._read_ahead)

    async def _read_ahead(self) -> None:
        try:
            while True:
                while self._backlog >= READ_AHEAD:
                    await self._change()
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    self._over(message)
                    return
                if self._queue is None:  # an empty one takes 760 bytes
                    self._queue = deque()
                self._queue.append(message)
                self._backlog += _weight(message)
                self._wake()
        except Exception as error:  # noqa: BLE001
            # The app learns of it where it would have without us: in its next `receive`.
            self._error = error
            self._reading = Reading.OVER
        finally:
            if self._reading is Reading.WATCH:  # cancelled by somebody else: the app may read on
                self._reading = Reading.NOBODY
            self._wake()

    def _over(self, message: Message) -> None:
        self._disconnect = message
        self._reading = Reading.OVER
        if self._watcher is None:
            self.hand_over()
        else:
            self._watcher.client_left()

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
