"""`Parker` and `Interruptible`: waits of one task that other tasks can end, on every event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest

from sse_batching._loop import Interruptible, Parker, current_loop
from tests.conftest import EVERY_LOOP, VIRTUAL_TIME, loops

pytestmark = [pytest.mark.anyio, loops([*VIRTUAL_TIME, *EVERY_LOOP])]


# Parking.


async def test_a_parked_task_waits_until_it_is_unparked() -> None:
    """`unpark` lets the parked task go on."""
    parker, log = current_loop().parker(), list[str]()

    async def work() -> None:
        await parker.park()
        log.append("woken")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await anyio.wait_all_tasks_blocked()
        assert (parker.parked, log) == (True, [])
        parker.unpark()
        assert parker.parked is False

    assert (parker.parked, log) == (False, ["woken"])


async def test_unparking_twice_wakes_once() -> None:
    """A second `unpark` before the task has run has no effect, and does not end the next `park`."""
    parker, woken = current_loop().parker(), list[int]()

    async def work() -> None:
        for n in range(2):
            await parker.park()
            woken.append(n)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await anyio.wait_all_tasks_blocked()
        parker.unpark()
        parker.unpark()
        await anyio.wait_all_tasks_blocked()
        assert (woken, parker.parked) == ([0], True)
        parker.unpark()


async def park(parker: Parker) -> None:
    await parker.park()


async def test_an_unpark_before_the_park_has_no_effect() -> None:
    """A task looks for work before it parks, so an earlier `unpark` need not be remembered."""
    parker = current_loop().parker()
    parker.unpark()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(park, parker)
        await anyio.wait_all_tasks_blocked()
        assert parker.parked
        parker.unpark()


async def test_a_task_that_is_cancelled_while_parked_is_parked_no_longer() -> None:
    """A cancellation leaves the parker as it was before."""
    parker = current_loop().parker()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(park, parker)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()

    assert not parker.parked
    parker.unpark()
    assert not parker.parked


async def test_unparking_a_task_that_is_being_cancelled_does_nothing() -> None:
    """`unpark` between a cancellation and the loop iteration in which the task sees it raises no
    error."""
    parker, woken = current_loop().parker(), list[bool]()

    async def wait() -> None:
        await parker.park()
        woken.append(True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
        parker.unpark()

    assert (parker.parked, woken) == (False, [])


# Interruptions.


async def outcome(
    wait: Callable[[], Awaitable[object]], *, interrupt: bool = False, cancel: bool = False
) -> list[str]:
    """Return the log of an interruptible wait that is interrupted, or cancelled, or both."""
    log: list[str] = []
    waits: list[Interruptible] = []

    async def work() -> None:
        waits.append(current_loop().interruptible())
        try:
            with waits[0]:
                await wait()
                log.append("waited to the end")
        except OSError:
            log.append("failed")
        log.append("interrupted" if waits[0].interrupted else "not interrupted")
        await anyio.lowlevel.checkpoint()
        log.append("went on")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await anyio.wait_all_tasks_blocked()
        if cancel:
            tasks.cancel_scope.cancel()
        if interrupt:
            waits[0].interrupt()
            waits[0].interrupt()
    return log


async def fail_when_cancelled() -> None:
    try:
        await anyio.sleep_forever()
    finally:
        raise OSError


async def test_a_wait_that_nobody_interrupts_comes_to_its_end() -> None:
    """A wait that ends by itself was not interrupted."""
    log = await outcome(anyio.lowlevel.checkpoint)

    assert log == ["waited to the end", "not interrupted", "went on"]


async def test_an_interruption_ends_the_wait_and_nothing_else() -> None:
    """A task that is interrupted, once or twice, goes on behind the wait and is not cancelled."""
    assert await outcome(anyio.sleep_forever, interrupt=True) == ["interrupted", "went on"]


@pytest.mark.parametrize("interrupt", [False, True])
async def test_a_cancellation_is_no_interruption(interrupt: bool) -> None:
    """A cancelled task does not go on, whether or not its wait was interrupted, too."""
    log = await outcome(anyio.sleep_forever, interrupt=interrupt, cancel=True)

    assert "went on" not in log


async def test_an_interrupted_wait_that_raises_another_error_fails() -> None:
    """An error that the wait raises in place of the cancellation passes through."""
    log = await outcome(fail_when_cancelled, interrupt=True)

    assert log == ["failed", "not interrupted", "went on"]
