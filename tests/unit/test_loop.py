"""Time, tasks and places to wait of an event loop, whichever it is."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from sse_batching._loop import Interruptible, Loop, Parker, Suspended, current_loop
from sse_batching._loop._latency import MAX_ITERATION
from tests.conftest import EVERY_LOOP, VIRTUAL_TIME, loops
from tests.support.threads import PATIENCE, running

pytestmark = [pytest.mark.anyio, loops([*VIRTUAL_TIME, *EVERY_LOOP])]

on_real_time = loops(EVERY_LOOP)
on_virtual_time = loops(VIRTUAL_TIME)


# The scheduler.


async def test_a_loop_has_one_scheduler() -> None:
    """All the requests of a loop share a scheduler, whose clock is that of the loop."""
    assert current_loop() is current_loop()
    assert anyio.current_time() <= current_loop().time() <= anyio.current_time()


async def test_every_loop_has_a_scheduler_of_its_own() -> None:
    """A loop in another thread gets another scheduler, and so does a later loop in that thread."""

    async def loop_there() -> Loop:
        return current_loop()

    there: list[Loop] = []
    with running(lambda: there.extend(anyio.run(loop_there) for _ in range(2))):
        pass

    assert len({id(each) for each in (current_loop(), *there)}) == 3


async def test_run_in_loop_calls_at_once_in_the_thread_of_the_loop() -> None:
    """In the loop's own thread `run_in_loop` has called when it returns."""
    calls: list[int] = []

    current_loop().run_in_loop(lambda: calls.append(threading.get_ident()))

    assert calls == [threading.get_ident()]


@on_real_time
async def test_run_in_loop_calls_in_the_thread_of_the_loop_from_any_other() -> None:
    """A callback from another thread runs in the loop's thread, and wakes it for that."""
    here, called, calls = current_loop(), anyio.Event(), list[int]()

    def call() -> None:
        calls.append(threading.get_ident())
        called.set()

    with running(lambda: here.run_in_loop(call)), anyio.fail_after(PATIENCE):
        await called.wait()

    assert calls == [threading.get_ident()]


def test_run_in_loop_is_harmless_when_the_loop_has_ended() -> None:
    """A thread that outlives the loop, an agent's say, calls nobody and does not fail."""

    async def loop_there() -> Loop:
        return current_loop()

    there: list[Loop] = []
    with running(lambda: there.append(anyio.run(loop_there))):
        pass
    calls: list[str] = []

    there[0].run_in_loop(lambda: calls.append("called"))

    assert calls == []


async def test_a_timer_can_be_cancelled() -> None:
    """A cancelled timer does not call; the one beside it does, when its time has come."""
    here, calls, called = current_loop(), list[str](), anyio.Event()
    due = here.time() + 0.01
    here.call_at(due, lambda: calls.append("cancelled")).cancel()
    here.call_at(due, called.set)

    with anyio.fail_after(PATIENCE):
        await called.wait()

    assert calls == []
    assert here.time() >= due - 0.001  # a clock tick


async def test_a_turn_may_last_for_a_while() -> None:
    """From the first time that somebody asks, by the caller's clock; after that it is too long."""
    latency = current_loop().latency
    await anyio.wait_all_tasks_blocked()

    asked = [
        latency.too_long(now) for now in (1000.0, 1000.0, 1000 + MAX_ITERATION, 1000.5, 1001.0)
    ]

    assert asked == [False, False, False, True, True]


async def test_the_next_turn_is_measured_anew() -> None:
    """A task that gives way to the others begins a new turn, however late it is."""
    here = current_loop()
    here.latency.too_long(1000.0)
    await here.checkpoint()
    await anyio.wait_all_tasks_blocked()

    assert not here.latency.too_long(1007.0)
    assert here.latency.too_long(1009.0)


async def test_another_turn_has_another_number() -> None:
    """Who sees the same number again is in the same turn."""
    latency = current_loop().latency
    await anyio.wait_all_tasks_blocked()
    numbers = list[int]()
    for now in (1000.0, 1004.0):
        latency.too_long(now)
        numbers.append(latency.iteration)
    await anyio.wait_all_tasks_blocked()
    latency.too_long(1008.0)
    numbers.append(latency.iteration)

    first = numbers[0]
    assert numbers == [first, first, first + 1]


async def test_all_who_ask_in_one_turn_share_its_time() -> None:
    """Tasks that run one after the other in one turn hold up the others together."""
    latency, over = current_loop().latency, list[bool]()
    await anyio.wait_all_tasks_blocked()
    times = iter([1000.0, 1004.0, 1008.0])

    async def ask() -> None:
        over.append(latency.too_long(next(times)))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask)

    assert over == [False, True, True]


# Tasks.


async def test_a_join_waits_for_the_end_of_the_task() -> None:
    """`join` returns when the task has ended."""
    release = anyio.Event()
    task = current_loop().spawn(release.wait)
    await anyio.wait_all_tasks_blocked()
    assert not task.done

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(task.join, PATIENCE)
        await anyio.wait_all_tasks_blocked()
        assert not task.done
        release.set()

    assert task.done
    await task.join(PATIENCE)


async def test_a_cancelled_task_ends() -> None:
    """`cancel` ends a task that waits for ever, and its `finally` runs."""
    log: list[str] = []

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("finally")

    task = current_loop().spawn(wait)
    await anyio.wait_all_tasks_blocked()

    task.cancel()
    await task.join(PATIENCE)

    assert (task.done, log) == (True, ["finally"])


@on_virtual_time
async def test_a_join_gives_up_after_its_timeout() -> None:
    """A task that does not end in time is not waited for any longer."""
    here = current_loop()
    task, began = here.spawn(anyio.sleep_forever), here.time()

    await task.join(3)

    assert here.time() - began == pytest.approx(3)
    assert not task.done
    task.cancel()
    await task.join(3)
    assert task.done


# Work that is begun for a task.


class Worker:
    """A task that parks, and then finishes what was begun for it."""

    def __init__(self) -> None:
        self.parker = current_loop().parker()
        self.rest: Suspended | None = None
        self.id: int | None = None
        self.log: list[str] = []
        self.task = current_loop().spawn(self._run)

    async def _run(self) -> None:
        self.id = anyio.get_current_task().id
        await self.parker.park()
        if self.rest is not None:
            try:
                await self.rest
            except OSError:
                self.log.append("failed")

    async def do(self, work: Awaitable[None], *, interrupt: bool = False) -> None:
        """Begin the work in a callback of the loop, let the task finish it, or cancel that."""
        await anyio.wait_all_tasks_blocked()
        begun = anyio.Event()

        def begin() -> None:
            try:
                self.rest = self.task.run_eagerly(work)
            except OSError:
                self.log.append("failed")
            begun.set()

        here = current_loop()
        here.call_at(here.time(), begin)
        await begun.wait()
        self.parker.unpark()
        await anyio.wait_all_tasks_blocked()
        if interrupt:
            self.task.cancel()
        await self.task.join(PATIENCE)


async def test_work_that_is_begun_for_a_task_is_done_in_its_name() -> None:
    """From its first step, before there was anything to wait for, to its last."""
    worker, found = Worker(), list[int]()

    async def work() -> None:
        for _ in range(3):
            found.append(anyio.get_current_task().id)
            with anyio.move_on_after(PATIENCE):  # to be entered and left in one and the same task
                await anyio.sleep(0.001)

    await worker.do(work())

    assert found == [worker.id] * 3


async def test_work_that_need_not_wait_is_done_at_once_on_asyncio() -> None:
    """Nothing is left for the task. On trio nobody can work for another task: all of it is."""
    worker, log = Worker(), list[str]()

    async def work() -> None:
        log.append("done")

    await worker.do(work())

    assert log == ["done"]
    assert (worker.rest is not None) == current_loop().needs_cancel_scope


@pytest.mark.parametrize("waits", [False, True], ids=["at-once", "after-a-wait"])
async def test_what_begun_work_raises_is_raised_where_it_is_done(waits: bool) -> None:
    """By `start`, or where the task awaits the rest; and that is the end of it."""
    worker = Worker()

    async def work() -> None:
        if waits:
            await anyio.sleep(0.001)
        raise OSError

    await worker.do(work())

    assert (worker.log, worker.task.done) == (["failed"], True)


async def test_begun_work_is_cancelled_with_its_task() -> None:
    """Where it waits, as any work of the task: it can clean up."""
    worker, log = Worker(), list[str]()

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            log.append("cancelled")
            raise
        finally:
            log.append("finally")

    await worker.do(work(), interrupt=True)

    assert (log, worker.task.done) == (["cancelled", "finally"], True)


async def test_begun_work_that_catches_an_error_goes_on() -> None:
    """What its wait raises, a timeout say, is raised in it."""
    worker, log = Worker(), list[str]()

    async def work() -> None:
        for _ in range(2):
            with anyio.move_on_after(0.001) as scope:
                await anyio.sleep_forever()
            log.append("timed out" if scope.cancelled_caught else "not")

    await worker.do(work())

    assert log == ["timed out", "timed out"]


async def test_begun_work_that_nobody_will_finish_can_be_closed() -> None:
    """Its `finally` runs, and nothing warns of it."""
    worker, log = Worker(), list[str]()

    async def work() -> None:
        try:
            log.append("begun")
            await anyio.sleep_forever()
        finally:
            log.append("finally")

    await anyio.wait_all_tasks_blocked()
    here, begun = current_loop(), anyio.Event()
    rests: list[Suspended | None] = []

    def begin() -> None:
        rests.append(worker.task.run_eagerly(work()))
        begun.set()

    here.call_at(here.time(), begin)
    await begun.wait()
    assert rests[0] is not None
    rests[0].close()
    worker.task.cancel()
    await worker.task.join(PATIENCE)

    assert log in (["begun", "finally"], [])  # on trio it has not begun yet


class Ready:
    """What a server's `send` may return in place of a coroutine."""

    def __init__(self) -> None:
        self.awaited = False

    def __await__(self) -> Generator[Any, Any, None]:
        self.awaited = True
        return
        yield


async def test_any_awaitable_can_be_begun() -> None:
    """Not only coroutines: servers written in other languages have types of their own."""
    worker, ready = Worker(), Ready()

    await worker.do(ready)

    assert ready.awaited


# Places to wait.


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
    """A second `unpark` before the task has run is lost, and does not end its next parking."""
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


async def test_unparking_nobody_does_nothing() -> None:
    """What comes before a `park` does not end it: whoever parks looks for work first."""
    parker = current_loop().parker()
    parker.unpark()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(park, parker)
        await anyio.wait_all_tasks_blocked()
        assert parker.parked
        parker.unpark()


async def test_a_task_cancelled_while_parked_is_parked_no_more() -> None:
    """A cancellation leaves the parker as it was before."""
    parker = current_loop().parker()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(park, parker)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()

    assert not parker.parked
    parker.unpark()
    assert not parker.parked


async def test_unparking_a_task_that_is_just_being_cancelled_does_nothing() -> None:
    """`unpark` between a cancellation and the turn in which the task hears of it: no error."""
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


# Waits that others can cut short.


async def cut_short(
    wait: Callable[[], Awaitable[object]], *, interrupt: bool = False, cancel: bool = False
) -> list[str]:
    """What became of an interruptible wait that was interrupted, or cancelled, or both."""
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


async def test_a_wait_that_nobody_cuts_short_comes_to_its_end() -> None:
    """A wait that ends by itself was not interrupted."""
    log = await cut_short(anyio.lowlevel.checkpoint)

    assert log == ["waited to the end", "not interrupted", "went on"]


async def test_an_interruption_ends_the_wait_and_nothing_else() -> None:
    """Whoever is interrupted, once or twice, goes on behind the wait, and is not cancelled."""
    assert await cut_short(anyio.sleep_forever, interrupt=True) == ["interrupted", "went on"]


@pytest.mark.parametrize("interrupt", [False, True])
async def test_a_cancellation_is_no_interruption(interrupt: bool) -> None:
    """A task that somebody has cancelled does not go on, whether it was interrupted too or not."""
    log = await cut_short(anyio.sleep_forever, interrupt=interrupt, cancel=True)

    assert "went on" not in log


async def test_an_interrupted_wait_that_fails_otherwise_is_a_failure() -> None:
    """What the wait raised in place of the cancellation is raised, and the task goes on."""
    log = await cut_short(fail_when_cancelled, interrupt=True)

    assert log == ["failed", "not interrupted", "went on"]
