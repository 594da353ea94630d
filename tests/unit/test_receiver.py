"""`Receiver`: who reads from the server, and when the app sees `http.disconnect`."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from sse_batching._cause import CLIENT_LEFT, Cause
from sse_batching._loop import current_loop
from sse_batching._receiver import MESSAGE_OVERHEAD, READ_AHEAD, Receiver
from sse_batching._types import Message
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

DISCONNECT: Message = {"type": "http.disconnect"}


def part(body: bytes = b"x") -> Message:
    """Return a message with a part of the request body."""
    return {"type": "http.request", "body": body, "more_body": True}


class Server:
    """A server whose `receive` returns what the test has put in, or raises it."""

    def __init__(self, *coming: Message | Exception) -> None:
        self.coming = deque(coming)
        self.reads = 0
        self.reading = 0
        self.causes: list[Cause | None] = []
        self.app_waited = False
        """True if the app was waiting in `receive` when the cause came."""
        self.receiver = Receiver(self.receive, current_loop())
        self._put = anyio.Event()

    def put(self, message: Message | Exception) -> None:
        self.coming.append(message)
        self._put.set()
        self._put = anyio.Event()

    async def receive(self) -> Message:
        assert not self.reading, "two tasks read at the same time"
        self.reads += 1
        self.reading += 1
        try:
            while not self.coming:
                await self._put.wait()
        finally:
            self.reading -= 1
        message = self.coming.popleft()
        if isinstance(message, Exception):
            raise message
        return message

    def watch(self) -> None:
        self.receiver.watch(self._close)

    def _close(self, cause: Cause | None) -> None:
        self.causes.append(cause)
        self.app_waited = self.receiver.app_waits

    @asynccontextmanager
    async def app_receives(self) -> AsyncIterator[list[Message]]:
        """Let a task of the app wait in `receive` during the block. Yield what the task gets."""
        got: list[Message] = []

        async def app() -> None:
            got.append(await self.receiver.receive())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(app)
            await anyio.wait_all_tasks_blocked()
            yield got
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

    async def end(self) -> None:
        self.receiver.stop()
        await self.receiver.join(1)
        assert self.receiver.stopped


async def test_a_call_of_the_app_goes_to_the_server() -> None:
    """While nobody watches, the receiver reads only for the app, and has no task."""
    server = Server(part(b"a"), part(b"b"), DISCONNECT)

    assert await server.receiver.receive() == part(b"a")
    await anyio.wait_all_tasks_blocked()

    assert (server.reads, server.receiver.stopped) == (1, True)


async def test_a_watch_reads_ahead_up_to_the_limit() -> None:
    """Beyond `READ_AHEAD` the client waits, until the app has read a part."""
    body = bytes(READ_AHEAD // 4 - MESSAGE_OVERHEAD)
    server = Server(*[part(body)] * 8)

    server.watch()
    await anyio.wait_all_tasks_blocked()
    assert server.reads == 4

    assert await server.receiver.receive() == part(body)
    await anyio.wait_all_tasks_blocked()
    assert server.reads == 5
    await server.end()


async def test_small_messages_count_with_an_overhead() -> None:
    """Some servers repeat an empty message endlessly, and must not fill the memory."""
    server = Server(*[part(b"")] * 1000)

    server.watch()
    await anyio.wait_all_tasks_blocked()

    assert server.reads == READ_AHEAD // MESSAGE_OVERHEAD
    await server.end()


async def test_a_watch_notices_the_disconnect_once() -> None:
    """The app sees the disconnect when it may, and then in every call."""
    server = Server(part(b"a"), DISCONNECT)
    server.watch()
    await anyio.wait_all_tasks_blocked()
    assert (server.causes, server.app_waited) == ([CLIENT_LEFT], False)

    assert await server.receiver.receive() == part(b"a")
    async with server.app_receives() as got:
        await advance(60)
        assert got == []
        server.receiver.deliver_disconnect()

    assert got == [DISCONNECT]
    assert await server.receiver.receive() == DISCONNECT
    assert (server.causes, server.reads) == ([CLIENT_LEFT], 2)
    await server.end()


async def test_a_watch_that_begins_after_the_disconnect_is_told_now() -> None:
    """The app may have read the disconnect itself before its response started."""
    server = Server(DISCONNECT)
    assert await server.receiver.receive() == DISCONNECT

    server.watch()

    assert server.causes == [CLIENT_LEFT]
    await server.end()


async def test_a_watch_does_not_interrupt_the_app() -> None:
    """A call of the app's that waits in the server keeps reading for the watch as well."""
    server = Server()

    async with server.app_receives() as got:
        server.watch()
        await anyio.wait_all_tasks_blocked()
        assert (server.reads, server.receiver.stopped) == (1, True)
        server.put(DISCONNECT)
        await anyio.wait_all_tasks_blocked()
        assert (server.causes, server.app_waited, got) == ([CLIENT_LEFT], True, [])
        server.receiver.deliver_disconnect()

    assert got == [DISCONNECT]
    await server.end()


@pytest.mark.parametrize("comes", ["before", "after"])
async def test_after_the_watch_the_app_sees_the_disconnect(comes: str) -> None:
    """The response is complete. A disconnect that comes later is not a cause."""
    server = Server()
    server.watch()
    await anyio.wait_all_tasks_blocked()
    if comes == "before":
        server.put(DISCONNECT)
        await anyio.wait_all_tasks_blocked()

    server.receiver.unwatch()
    if comes == "after":
        server.put(DISCONNECT)

    with anyio.fail_after(1):
        assert await server.receiver.receive() == DISCONNECT
    assert server.causes == ([CLIENT_LEFT] if comes == "before" else [])
    assert not server.receiver.watching
    await server.end()


@pytest.mark.parametrize("reader", ["app", "watch"])
async def test_a_receiver_that_gives_up_reads_no_longer(reader: str) -> None:
    """The server may never say that the client has left. The app sees the disconnect anyway."""
    server = Server()
    if reader == "watch":
        server.watch()

    async with server.app_receives() as got:
        server.watch()
        server.receiver.give_up()
        await anyio.wait_all_tasks_blocked()
        assert (server.reading, got) == (0, [])
        server.receiver.deliver_disconnect()

    assert got == [DISCONNECT]
    await server.end()


@pytest.mark.parametrize("watches", [False, True])
async def test_an_error_of_the_server_is_raised_in_the_app(watches: bool) -> None:
    """The app sees the error in `receive`, as without the middleware."""
    server = Server(OSError("unreadable"))
    if watches:
        server.watch()
        await anyio.wait_all_tasks_blocked()

    with pytest.raises(OSError, match="unreadable"):
        await server.receiver.receive()

    assert server.causes == []
    await server.end()


@pytest.mark.parametrize("watches", [False, True])
async def test_a_cancelled_call_of_the_app_loses_no_message(watches: bool) -> None:
    """The next call gets the message that the cancelled call was waiting for."""
    server = Server()
    if watches:
        server.watch()

    async with server.app_receives():
        assert server.receiver.app_waits
    assert not server.receiver.app_waits
    server.put(part(b"a"))

    assert await server.receiver.receive() == part(b"a")
    await server.end()


@pytest.mark.parametrize("watches", [False, True])
async def test_each_of_several_calls_gets_a_message(watches: bool) -> None:
    """Two tasks of the app may wait in `receive`, while only one task reads from the server."""
    server = Server()
    if watches:
        server.watch()

    async with server.app_receives() as first, server.app_receives() as second:
        assert server.receiver.app_waits
        for body in (b"a", b"b"):
            server.put(part(body))

    assert sorted(message["body"] for message in first + second) == [b"a", b"b"]
    await server.end()
