"""`ManualClockLoop` and `advance`: a clock that moves when the test says so."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable

import anyio
import anyio.to_thread
import pytest
from trio.testing import MockClock

from sse_batching import SSEBatchingMiddleware
from sse_batching.testing import Conversation, ManualClockLoop, _clock, advance
from tests.conftest import VIRTUAL_ASYNCIO, VIRTUAL_TIME, loops, on_asyncio, on_trio
from tests.support.apps import emitting
from tests.support.virtual_time import spend

HAND_MOVED = [
    on_asyncio("manual-clock", ManualClockLoop, debug=True),
    on_trio("manual-clock-trio", MockClock),
]

pytestmark = pytest.mark.anyio

on_clocks_that_stand_still = loops(HAND_MOVED, because="the others move by themselves")
on_clocks_that_jump = loops(VIRTUAL_TIME)
on_every_manual_clock = loops([*HAND_MOVED, *VIRTUAL_TIME])

on_asyncio_alone = loops(HAND_MOVED[:1], because="trio has a clock of its own")


@on_clocks_that_stand_still
async def test_time_stands_still_until_it_is_advanced() -> None:
    """Real time that passes, here in a thread, does not move the clock."""
    before = anyio.current_time()
    await anyio.to_thread.run_sync(int)

    assert anyio.current_time() == before


@on_every_manual_clock
async def test_time_passes_by_what_it_is_advanced() -> None:
    """The clock moves by exactly the given seconds, however often."""
    before = anyio.current_time()

    await advance(2.5)
    await advance(0)
    await advance(3600)

    assert anyio.current_time() - before == 3602.5


@on_every_manual_clock
async def test_what_is_due_happens_at_its_time() -> None:
    """Each sleeper wakes at its time, even if it began to sleep after the clock was moved."""
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


@on_every_manual_clock
async def test_what_is_not_due_waits() -> None:
    """A batch is not sent before the clock shows its deadline."""
    talk = Conversation(SSEBatchingMiddleware(emitting(b"a", 0.25, b"b", 60.0), max_delay=0.5))
    async with talk:
        await advance(0.25)
        await advance(0.125)
        assert talk.bodies == [b"a"]

        await advance(0.125)
        assert talk.bodies == [b"a", b"b"]
        await advance(60)


@on_clocks_that_jump
async def test_a_clock_may_jump_to_the_next_timer() -> None:
    """With an `autojump_threshold` of 0 nobody has to advance the clock."""
    before = anyio.current_time()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep, 60)
        await anyio.sleep(3600)

    assert anyio.current_time() - before == 3600


@on_clocks_that_jump
async def test_a_clock_does_not_jump_without_a_timer() -> None:
    """A loop that has no timers waits for its threads in real time."""
    before = anyio.current_time()
    await anyio.to_thread.run_sync(threading.Event().wait, 0.01)

    assert anyio.current_time() == before


def times_out(autojump_threshold: float, work: Callable[[], object]) -> bool:
    """Give a thread a minute of a clock that jumps. Return True if the minute was too short."""

    async def run() -> bool:
        with anyio.move_on_after(60) as limit:
            await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        return limit.cancelled_caught

    def loop() -> ManualClockLoop:
        return ManualClockLoop(autojump_threshold=autojump_threshold)

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(run())


def test_a_thread_has_time_until_the_clock_jumps() -> None:
    """The clock jumps after `autojump_threshold` real seconds in which nothing happens."""
    finish = threading.Event()

    assert times_out(0.01, finish.wait)
    finish.set()
    assert not times_out(30, finish.wait)


@on_every_manual_clock
async def test_a_jump_runs_nothing() -> None:
    """`jump` passes time as blocking code does: what becomes due runs late."""
    woken: list[float] = []
    began = anyio.current_time()

    async def sleeper() -> None:
        await anyio.sleep(1)
        woken.append(anyio.current_time() - began)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleeper)
        await advance(0.5)
        spend(2)
        assert woken == []
        await advance(0)

    assert woken == [2.5]


@on_every_manual_clock
async def test_a_jump_past_the_end_of_an_advance_stays() -> None:
    """Code that blocks while the clock is advanced takes its time; the clock never goes back."""
    began = anyio.current_time()

    async def block() -> None:
        await anyio.sleep(1)
        spend(10)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(block)
        await advance(2)
        assert anyio.current_time() - began == 11


@on_asyncio_alone
async def test_a_real_socket_still_works() -> None:
    """Data that comes from outside needs no time on the clock."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader, writer = await asyncio.open_connection(sock=ours)
        await anyio.to_thread.run_sync(theirs.sendall, b"hello")

        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await writer.wait_closed()


@on_asyncio_alone
async def test_only_one_task_at_a_time_advances_the_clock() -> None:
    """With two there would be no order in which the clock reaches both times."""
    advancing = asyncio.ensure_future(advance(1))
    await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="another call of `advance` has not returned yet"):
        await advance(1)
    await advancing


@on_asyncio_alone
async def test_a_clock_can_be_advanced_after_a_call_was_cancelled() -> None:
    """A cancelled `advance` leaves the clock where it is, and other tasks may move it."""
    before = anyio.current_time()
    advancing = asyncio.ensure_future(advance(10))
    await asyncio.sleep(0)
    advancing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await advancing

    await advance(1)

    assert anyio.current_time() - before == 1


@on_every_manual_clock
async def test_time_does_not_go_back() -> None:
    """`advance` refuses a negative number with an error that names it."""
    with pytest.raises(ValueError, match="must not be negative; got -1"):
        await advance(-1)


@loops(VIRTUAL_ASYNCIO, because="trio has a clock of its own")
async def test_a_jump_does_not_go_back() -> None:
    """`jump` refuses a negative number with an error that names it."""
    with pytest.raises(ValueError, match="must not be negative; got -1"):
        spend(-1)


def test_a_clock_that_nobody_moves_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that sleeps, with no task left to advance the clock, fails and does not hang."""
    monkeypatch.setattr(_clock, "IDLE_LIMIT", 0.01)

    with (
        asyncio.Runner(loop_factory=ManualClockLoop) as runner,
        pytest.raises(RuntimeError, match=r"the next timer is 5\.0 s away on a clock that nobody"),
    ):
        runner.run(asyncio.sleep(5))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_real_clock_cannot_be_advanced(backend: str) -> None:
    """The error says which clocks can be advanced."""
    with pytest.raises(RuntimeError, match="can be advanced; this is"):
        anyio.run(advance, 1.0, backend=backend)
