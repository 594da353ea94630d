"""`ManualClockLoop` and `advance`: time that passes when the test says so."""

from __future__ import annotations

import asyncio
import socket

import anyio
import anyio.to_thread
import pytest
import trio.testing

from sse_batching import SSEBatchingMiddleware
from sse_batching.testing import Conversation, ManualClockLoop, _clock, advance
from tests.conftest import loops, on_asyncio
from tests.support.apps import emitting

HAND_TURNED = [
    on_asyncio("manual-clock", ManualClockLoop, debug=True),
    pytest.param(("trio", {"clock": trio.testing.MockClock()}), id="manual-clock-trio"),
]

pytestmark = [pytest.mark.anyio, loops(HAND_TURNED, because="their clock stands still")]

on_asyncio_alone = loops(HAND_TURNED[:1], because="trio has a clock of its own")


async def test_time_stands_still_until_it_is_turned() -> None:
    """Whatever the real clock says."""
    before = anyio.current_time()
    await anyio.to_thread.run_sync(int)

    assert anyio.current_time() == before


async def test_time_passes_by_what_it_is_turned() -> None:
    """To the second, and again."""
    before = anyio.current_time()

    await advance(2.5)
    await advance(0)
    await advance(3600)

    assert anyio.current_time() - before == 3602.5


async def test_what_is_due_happens_at_its_time() -> None:
    """Each sleeper wakes when its time has come, also one that fell asleep meanwhile."""
    woken: list[tuple[str, float]] = []
    began = anyio.current_time()

    async def sleeper(name: str, *seconds: float) -> None:
        for each in seconds:
            await anyio.sleep(each)
            woken.append((name, anyio.current_time() - began))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleeper, "a", 2, 2)
        tasks.start_soon(sleeper, "b", 1, 1.5)
        await advance(3)
        assert woken == [("b", 1), ("a", 2), ("b", 2.5)]
        await advance(1)

    assert woken[-1] == ("a", 4)


async def test_what_is_not_due_waits() -> None:
    """A moment before its time nothing has happened."""
    talk = Conversation(SSEBatchingMiddleware(emitting(b"a", 0.125, b"b", 60.0), max_delay=0.5))
    async with talk:
        await advance(0.125)
        await advance(0.375)
        assert talk.bodies == [b"a"]

        await advance(0.125)
        assert talk.bodies == [b"a", b"b"]
        await advance(60)


@on_asyncio_alone
async def test_a_real_socket_still_works() -> None:
    """What comes from outside needs no time."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader, writer = await asyncio.open_connection(sock=ours)
        await anyio.to_thread.run_sync(theirs.sendall, b"hello")

        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await writer.wait_closed()


@on_asyncio_alone
async def test_a_clock_is_turned_by_one() -> None:
    """Two at once would not know where they are."""
    turning = asyncio.ensure_future(advance(1))
    await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="being turned already"):
        await advance(1)
    await turning


@on_asyncio_alone
async def test_a_clock_can_be_turned_after_a_turn_was_cancelled() -> None:
    """Who gives up half-way leaves the clock where it is, and to others."""
    before = anyio.current_time()
    turning = asyncio.ensure_future(advance(10))
    await asyncio.sleep(0)
    turning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turning

    await advance(1)

    assert anyio.current_time() - before == 1


async def test_time_does_not_go_back() -> None:
    """A negative number is an error that names it."""
    with pytest.raises(ValueError, match="must not be negative; got -1"):
        await advance(-1)


def test_a_clock_that_nobody_turns_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that sleeps, with nobody left to turn the clock, fails and does not hang."""
    monkeypatch.setattr(_clock, "IDLE_LIMIT", 0.01)

    with (
        asyncio.Runner(loop_factory=ManualClockLoop) as runner,
        pytest.raises(RuntimeError, match=r"the next timer is 5\.0 s away on a clock that nobody"),
    ):
        runner.run(asyncio.sleep(5))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_real_clock_cannot_be_turned(backend: str) -> None:
    """The error says what it takes."""
    with pytest.raises(RuntimeError, match="can be advanced; this is"):
        anyio.run(advance, 1.0, backend=backend)
