"""How a `BatchWriter` ends: failed writes, errors of the app, stalled clients, and `abort`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest
import trio

from sse_batching import CancelReason
from sse_batching._cause import WRITE_STALLED, Cause
from sse_batching._types import Message
from tests.conftest import VIRTUAL_ASYNCIO, VIRTUAL_TIME, loops
from tests.support.apps import chunk, last, start
from tests.support.virtual_time import advance
from tests.unit.writing import BOUND, DELAY, Server, Writing

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]


@pytest.mark.parametrize("waits", [False, True], ids=["in-the-background", "with-a-producer"])
async def test_a_failed_write_is_a_cause(waits: bool) -> None:
    """The owner gets the cause, and a waiting producer gets the exception as well."""
    writing = Writing()
    error = writing.server.error = ConnectionResetError("gone")

    if waits:
        with pytest.raises(ConnectionResetError) as caught:
            await writing.writer.write_through(start())
        assert caught.value is error
    else:
        writing.add(b"a")
        await anyio.wait_all_tasks_blocked()

    assert writing.closed == [Cause(CancelReason.SEND_FAILED, "SSE client disconnected", error)]
    await writing.end()


async def test_a_write_by_the_timer_that_fails_is_a_cause() -> None:
    """The failure of a write that no task of the app waits for is not lost."""
    writing = Writing()
    await writing.begin_burst()
    error = writing.server.error = ConnectionResetError("gone")

    writing.add(b"c")
    await advance(DELAY + 1)

    assert writing.closed == [Cause(CancelReason.SEND_FAILED, "SSE client disconnected", error)]
    assert writing.buffer.undelivered == 1
    await writing.end()


async def test_an_error_of_the_app_is_raised_where_the_app_waits() -> None:
    """The stream stays open, as it does without the middleware."""
    writing = Writing()
    writing.server.error = RuntimeError("Unexpected ASGI message")

    with pytest.raises(RuntimeError, match="Unexpected ASGI message"):
        await writing.writer.write_through(start())

    assert (writing.closed, writing.writer.accepting) == ([], True)
    await writing.end()


@pytest.mark.parametrize("producer", ["does-not-wait", "was-cancelled"])
async def test_an_error_of_the_app_that_nobody_waits_for_is_a_cause(producer: str) -> None:
    """The error was found in the background, so the stream cannot stay open."""
    writing = Writing()
    error = writing.server.error = RuntimeError("Response content longer than Content-Length")

    if producer == "was-cancelled":
        writing.server.block()
        with anyio.move_on_after(1):
            await writing.writer.write_through(start())
        writing.server.unblock()
    else:
        writing.add(b"a")
    await anyio.wait_all_tasks_blocked()

    cause = Cause(CancelReason.SEND_FAILED, "SSE write failed", error, is_app_error=True)
    assert writing.closed == [cause]
    await writing.end()


async def wait_for_turn(writing: Writing) -> None:
    await writing.writer.wait_turn()


async def drain(writing: Writing) -> None:
    await writing.writer.drain()


async def write_through(writing: Writing) -> None:
    await writing.writer.write_through(start())


@pytest.mark.parametrize("wait", [wait_for_turn, drain, write_through])
async def test_abort_wakes_all_producers(
    wait: Callable[[Writing], Coroutine[Any, Any, None]],
) -> None:
    """Nothing more is written: the buffer is dropped, and the write in flight is cancelled."""
    writing = Writing()
    writing.server.block()
    writing.add(bytes(BOUND + 1))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, writing)
        await anyio.wait_all_tasks_blocked()
        writing.writer.abort()
    writing.server.unblock()
    await writing.writer.join(1)

    assert (writing.writer.stopped, writing.server.sent) == (True, [])
    assert writing.buffer.undelivered == BOUND + 1
    await writing.writer.write_through(start())  # returns at once
    assert writing.server.sent == []


async def test_a_write_that_takes_too_long_has_stalled() -> None:
    """`send_timeout` counts from the beginning of each write."""
    writing = Writing(send_timeout=10)
    writing.add(b"a")
    await advance(9)
    writing.server.block()
    writing.add(b"b")

    await advance(9)
    assert writing.closed == []
    await advance(2)

    assert writing.closed == [WRITE_STALLED]
    await writing.end()


class StubbornServer(Server):
    """Takes the message of a write although the write was cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = anyio.Event()

    async def send(self, message: Message) -> None:
        self.begun.set()
        if trio.lowlevel.in_trio_task():
            with anyio.CancelScope(shield=True):
                await super().send(message)
            return
        work = asyncio.ensure_future(super().send(message))
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(work)


def task_write(writing: Writing) -> None:
    """Let the task begin a write."""
    writing.add(b"a")


def timer_write(writing: Writing) -> None:
    """Let the timer begin a write."""
    writing.add(b"c")


@pytest.mark.parametrize("begin", [task_write, timer_write])
@pytest.mark.parametrize("then", [chunk(b"d"), last(b"d"), {"type": "http.response.debug"}])
async def test_nothing_is_written_after_abort(
    begin: Callable[[Writing], None], then: Message
) -> None:
    """A `send` that outlives its cancellation may still deliver its message, but nothing follows
    it: a batch was dropped, and a client would take the last message for the end of a whole
    answer."""
    server = StubbornServer()
    writing = Writing(server, send_timeout=10)
    if begin is timer_write:
        await writing.begin_burst()
    written = len(server.sent)
    server.begun = anyio.Event()
    server.block()
    begin(writing)
    await server.begun.wait()

    async with anyio.create_task_group() as tasks:
        writing.add(b"b")
        tasks.start_soon(partial(writing.writer.write_through, then, last=then == last(b"d")))
        await anyio.wait_all_tasks_blocked()
        writing.writer.abort()
    server.unblock()
    await writing.writer.join(1)
    await advance(100)

    assert len(server.sent) == written + 1
    assert writing.writer.stopped
    assert writing.closed == []  # no stalled write was reported, so no timer was left


@loops(VIRTUAL_ASYNCIO, because="a cancelled task of trio's stays cancelled")
@pytest.mark.parametrize("begin", [task_write, timer_write])
async def test_abort_cancels_a_write_once(begin: Callable[[Writing], None]) -> None:
    """A second cancellation would cut off what the server's `send` awaits to clean up."""
    log = list[str]()

    class CarefulServer(Server):
        async def send(self, message: Message) -> None:
            try:
                await super().send(message)
            except asyncio.CancelledError:
                log.append("cancelled")
                await asyncio.sleep(0.5)
                log.append("cleaned up")
                raise

    writing = Writing(CarefulServer())
    if begin is timer_write:
        await writing.begin_burst()
    writing.server.block()
    begin(writing)
    await advance(DELAY)

    for _ in range(3):
        writing.writer.abort()
        await asyncio.sleep(0)
    await writing.writer.join(1)

    assert (log, writing.writer.stopped) == (["cancelled", "cleaned up"], True)


@pytest.mark.parametrize("through", ["flush", "message", "last"])
async def test_a_failed_write_with_accepted_bytes_closes_the_stream(through: str) -> None:
    """The producer that waits for the write gets the exception. The bytes are lost, so the stream
    must not go on as if they had been delivered."""
    writing = Writing()
    await writing.begin_burst()
    error = writing.server.error = RuntimeError("the audit log is locked")
    writing.add(b"c")
    waits: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "flush": writing.writer.flush,
        "message": partial(writing.writer.write_through, {"type": "http.response.debug"}),
        "last": partial(writing.writer.write_through, last(), last=True),
    }

    with pytest.raises(RuntimeError) as caught:
        await waits[through]()

    assert caught.value is error
    cause = Cause(CancelReason.SEND_FAILED, "SSE write failed", error, is_app_error=True)
    assert writing.closed == [cause]
    assert writing.buffer.undelivered == 1
    await writing.end()


async def test_a_failed_message_with_a_body_closes_the_stream() -> None:
    """A body message that is written unchanged carries bytes, too."""
    writing = Writing()
    error = writing.server.error = RuntimeError("the audit log is locked")

    with pytest.raises(RuntimeError):
        await writing.writer.write_through({**chunk(b"a"), "x": 1}, size=1)

    assert [cause and cause.error for cause in writing.closed] == [error]
    assert writing.buffer.undelivered == 1
    await writing.end()


async def test_the_end_of_the_response_ends_the_task() -> None:
    """A message that ends the response unchanged, such as a file, is followed by nothing."""
    writing = Writing(keepalive_interval=1)
    file = {"type": "http.response.pathsend", "path": "/answer"}

    await writing.writer.write_through(file, ends=True)
    await advance(10)

    assert (writing.server.sent, writing.writer.stopped) == ([file], True)
    assert writing.closed == [None]
