"""The apps of interrupted requests.

Each is a coroutine function that is given a `Call`. All end by themselves, or when their client has
left.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from functools import partial
from typing import Any, Final, Protocol

import anyio
from starlette.types import Message

from sse_batching import CancellationToken
from tests.support.apps import chunk, last, start

from .case import Asking
from .record import Record, Sent
from .server import Backend

PAUSE: Final = 0.01
LONG: Final = 0.2


class OwnError(ValueError):
    """The app's own exception."""


class AppBackend(Backend, Protocol):
    """What an app needs of a loop besides."""

    def group(self) -> AbstractAsyncContextManager[Any]:
        """Return a group of tasks of the loop's own kind."""

    def start_in(self, group: Any, work: Callable[[], Awaitable[None]]) -> None:
        """Start a task in the group."""

    def detach(self, work: Callable[[], Awaitable[None]]) -> None:
        """Start a task that may outlive the app."""

    def limit(self, seconds: float) -> AbstractAsyncContextManager[Any]:
        """Return a time limit for the app's own use. It raises nothing."""

    def registered(self, asking: Asking, token: CancellationToken) -> AbstractContextManager[None]:
        """Register with the token what `Asking` says, for the app that runs inside."""


class Call:
    """One call of an app."""

    def __init__(
        self,
        backend: AppBackend,
        record: Record,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        self.backend = backend
        self.record = record
        self.receive = receive
        self._send = send

    async def send(self, message: Message) -> None:
        starts = message["type"] == "http.response.start"
        sent = Sent(message.get("body", b""), starts, self.backend.step)
        self.record.sends.append(sent)
        try:
            await self._send(message)
        except BaseException as error:
            sent.error = error
            raise
        finally:
            sent.last_step = self.backend.step

    async def begin(self) -> None:
        await self.send(start())
        await self.send(chunk(b"A"))
        await anyio.sleep(PAUSE)

    async def go_on(self) -> None:
        await self.send(chunk(b"B"))
        await anyio.sleep(PAUSE / 10)
        await self.send(chunk(b"C"))

    async def end(self) -> None:
        await anyio.sleep(PAUSE)
        await self.send(last(b"D"))


App = Callable[[Call], Awaitable[None]]


async def streams(call: Call) -> None:
    """Stream, and end the response."""
    await call.begin()
    await call.go_on()
    await call.end()


async def returns(call: Call) -> None:
    """Return without a last message, with a chunk that waits for its write."""
    await call.begin()
    await call.go_on()


async def waits(call: Call) -> None:
    """Wait for something that never comes, after the last chunk."""
    await call.begin()
    await call.go_on()
    await anyio.sleep(60)


async def raises(call: Call) -> None:
    """Raise in the middle, with a chunk that waits for its write."""
    await call.begin()
    await call.go_on()
    raise OwnError("in the middle")


async def raises_in_finally(call: Call) -> None:
    """Raise while cleaning up, whatever has come before."""
    try:
        await waits(call)
    finally:
        raise OwnError("in finally")


async def raises_when_cancelled(call: Call) -> None:
    """Raise while handling a cancellation."""
    try:
        await waits(call)
    except anyio.get_cancelled_exc_class():
        raise OwnError("while cancelled") from None


async def swallows(call: Call) -> None:
    """Swallow every cancellation, and go on with the next part."""
    for part in (call.begin, call.go_on, call.end):
        try:
            await part()
        except anyio.get_cancelled_exc_class():
            call.record.swallowed.append(call.backend.step)


async def cleans_up(call: Call) -> None:
    """Take some time to clean up, in which another interruption may come."""
    try:
        await waits(call)
    finally:
        await anyio.sleep(PAUSE)


async def goes_on_without_client(call: Call) -> None:
    """Ignore that `send` raises, and end with an exception of its own."""
    for part in (call.begin, call.go_on, call.end):
        try:
            await part()
        except OSError:
            await anyio.sleep(PAUSE)
    raise OwnError("in the end")


async def two_tasks(call: Call) -> None:
    """Send in two tasks of a group of the loop's own kind."""

    async def more() -> None:
        for body in (b"K", b"L"):
            await call.send(chunk(body))
            await anyio.sleep(PAUSE)

    await call.send(start())
    async with call.backend.group() as group:
        call.backend.start_in(group, more)
        await call.send(chunk(b"A"))
        await anyio.sleep(PAUSE)
        await call.send(chunk(b"B"))
        await anyio.sleep(LONG)
    await call.end()


async def raises_in_a_group(call: Call) -> None:
    """Raise in one task of a group, while another one sends."""

    async def trouble() -> None:
        await anyio.sleep(2 * PAUSE)
        raise OwnError("in a group")

    await call.begin()
    async with call.backend.group() as group:
        call.backend.start_in(group, trouble)
        await call.go_on()
        await anyio.sleep(LONG)


async def receives(call: Call) -> None:
    """Wait in `receive` until the client has left."""
    await call.begin()
    await call.go_on()
    while (await call.receive())["type"] != "http.disconnect":
        pass


async def listens(call: Call) -> None:
    """Stream in one task, and wait in `receive` in another, as Starlette does."""
    async with anyio.create_task_group() as group:

        async def listen() -> None:
            while (await call.receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(listen)
        await streams(call)
        group.cancel_scope.cancel()


async def limits_itself(call: Call) -> None:
    """Give up a wait of its own after a time, and go on."""
    await call.begin()
    async with call.backend.limit(PAUSE):
        await anyio.sleep(LONG)
    await call.go_on()
    await call.end()


async def leaves_tasks(call: Call) -> None:
    """Leave tasks behind that send, more than the middleware buffers."""

    async def more(body: bytes) -> None:
        with suppress(Exception):  # nobody is left to raise it to
            await call.send(chunk(body))

    await call.begin()
    for body in (b"K" * 70_000, b"L" * 70_000, b"M"):
        call.backend.detach(partial(more, body))
    await anyio.sleep(PAUSE)
    raise OwnError("before its tasks")


async def answers(call: Call) -> None:
    """Answer with a response that does not stream."""
    await anyio.sleep(LONG)
    await call.send(start(b"application/json"))
    await anyio.sleep(PAUSE)
    await call.send(last(b"{}"))


APPS: Final[dict[str, App]] = {
    app.__name__: app
    for app in (
        streams,
        returns,
        waits,
        raises,
        raises_in_finally,
        raises_when_cancelled,
        swallows,
        cleans_up,
        goes_on_without_client,
        two_tasks,
        raises_in_a_group,
        receives,
        listens,
        limits_itself,
        leaves_tasks,
        answers,
    )
}
