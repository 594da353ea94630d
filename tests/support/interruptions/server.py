"""The server of an interrupted request, and its client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import anyio
from starlette.types import Message

from tests.support.apps import EVENT_STREAM

from .case import Sending
from .record import Record

SLOW: Final = 0.3
STUBBORN: Final = 3.0


class Backend(Protocol):
    """What differs between asyncio and trio."""

    @property
    def step(self) -> int:
        """The number of the step that runs, or is about to run."""

    def iteration(self) -> Awaitable[object]:
        """Suspend for one loop iteration."""

    def sleep_uncancelled(self, seconds: float, ignored: Callable[[], None]) -> Awaitable[object]:
        """Sleep, and ignore cancellations. `ignored` is called for each one if possible."""


class Server:
    """`send` and `receive` of the server."""

    def __init__(self, sending: Sending, record: Record, backend: Backend) -> None:
        self._sending = sending
        self._record = record
        self._backend = backend
        self._gone = anyio.Event()
        self._failed = anyio.Event()
        self._fault: BaseException | None = None
        self._chunks = 0
        self._streams = False

    # Interruptions.

    def leave(self) -> None:
        self._gone.set()

    def fail(self, error: BaseException) -> None:
        self._fault = error
        self._failed.set()

    # ASGI.

    async def receive(self) -> Message:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        record = self._record
        record.in_send += 1
        if message["type"] == "http.response.start":
            self._streams = (b"content-type", EVENT_STREAM) in message["headers"]
        try:
            self._raise_fault()
            if message["type"] == "http.response.body":
                self._chunks += 1
                await self._transfer()
                self._raise_fault()
        except Exception as error:
            record.write_errors.append(error)
            raise
        finally:
            record.in_send -= 1
        if message["type"] == "http.response.body":
            record.delivered.append(message.get("body", b""))
            record.ended_well = record.ended_well or not message.get("more_body", False)

    def _raise_fault(self) -> None:
        fault = self._fault
        if fault is None:
            return
        if not isinstance(fault, OSError):  # a mistake of the app's; the connection is sound
            self._fault = None
            self._failed = anyio.Event()
        raise fault

    async def _transfer(self) -> None:
        sending = self._sending
        if not self._streams and sending in {"rolls_back", "shields", "stubborn"}:
            sending = "slow"  # in the task of the app: to cancel it is right
        if sending == "yields":
            for _ in range(3):
                await self._backend.iteration()
        elif sending == "slow":
            with anyio.move_on_after(SLOW):
                await self._failed.wait()
        elif sending == "rolls_back":
            try:
                await anyio.sleep(SLOW)
            except anyio.get_cancelled_exc_class():
                await self._roll_back()
                raise
        elif sending == "stalls" and self._chunks == 2:
            await self._failed.wait()
        elif sending in {"shields", "stubborn"}:
            seconds = SLOW if sending == "shields" else STUBBORN
            await self._backend.sleep_uncancelled(seconds, self._ignored)

    async def _roll_back(self) -> None:
        try:
            with anyio.CancelScope(shield=True):
                for _ in range(3):
                    await self._backend.iteration()
        except anyio.get_cancelled_exc_class():
            self._record.complaints.append("a write was cancelled twice")
            raise

    def _ignored(self) -> None:
        self._record.aborted += 1
