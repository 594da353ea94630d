"""How a `BatchWriter` ends: failed writes, errors of the app, stalled clients, and `abort`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from sse_batching import CancelReason
from sse_batching._cause import WRITE_STALLED, Cause
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import start
from tests.support.virtual_time import advance
from tests.unit.writing import BOUND, DELAY, Writing

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
