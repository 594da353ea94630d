"""`Suspended`: a coroutine that `Task.run_eagerly` has begun, and that a task has to finish."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from typing import Any

import anyio
import pytest

from sse_batching._loop import Suspended, current_loop
from sse_batching._loop._suspended import coroutine_of
from tests.conftest import EVERY_LOOP, VIRTUAL_TIME, loops
from tests.support.threads import PATIENCE

on_every_loop = loops([*VIRTUAL_TIME, *EVERY_LOOP])


# The rest of a coroutine, without an event loop.


class Yields:
    """An awaitable that yields one value to the event loop, and returns what the loop sends."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __await__(self) -> Generator[str, str, str]:
        sent = yield self._value
        return sent


async def two_steps(log: list[str]) -> None:
    """Await twice, and record what each wait returns or raises."""
    for step in ("first", "second"):
        try:
            log.append(await Yields(step))
        except OSError as error:
            log.append(f"{error} in the {step} step")


async def await_it(suspended: Suspended) -> None:
    await suspended


def begun(log: list[str]) -> Suspended:
    """Return the rest of `two_steps` behind its first step."""
    coroutine = two_steps(log)
    return Suspended(coroutine, coroutine.send(None))


def finish(task: Coroutine[Any, Any, None], sent: str) -> bool:
    """Send a value to the coroutine. Return True if the coroutine has ended."""
    try:
        task.send(sent)
    except StopIteration:
        return True
    return False


def test_a_begun_coroutine_goes_on_behind_its_first_step() -> None:
    """The task waits for what the coroutine waits for, and hands on what it is sent."""
    log = list[str]()
    task = await_it(begun(log))

    assert task.send(None) == "first"
    assert task.send("one") == "second"
    assert finish(task, "two")

    assert log == ["one", "two"]


def test_a_coroutine_that_has_not_begun_begins_in_the_task() -> None:
    """On trio nothing has begun, and all of the coroutine is left for the task."""
    log = list[str]()
    task = await_it(Suspended(two_steps(log)))

    assert task.send(None) == "first"
    assert task.send("one") == "second"
    assert finish(task, "two")

    assert log == ["one", "two"]


def test_an_error_of_a_wait_is_raised_in_the_coroutine() -> None:
    """The coroutine can catch an error, and goes on."""
    log = list[str]()
    task = await_it(begun(log))
    task.send(None)

    assert task.throw(OSError("reset")) == "second"
    assert finish(task, "two")

    assert log == ["reset in the first step", "two"]


def test_an_error_of_the_coroutine_is_raised_in_the_task() -> None:
    """The coroutine ends with an error that it does not catch, and so does the wait for it."""
    task = await_it(begun([]))
    task.send(None)

    with pytest.raises(KeyError, match="lost"):
        task.throw(KeyError("lost"))


def test_a_task_that_is_closed_closes_the_coroutine() -> None:
    """The `finally` of the coroutine runs with that of the task, not in a garbage collection."""
    log = list[str]()

    async def work() -> None:
        try:
            await Yields("first")
        finally:
            log.append("finally")

    async def wait_for_work() -> None:
        coroutine = work()
        await Suspended(coroutine, coroutine.send(None))
        log.append("went on")

    task = wait_for_work()
    task.send(None)
    task.close()

    assert log == ["finally"]


def test_a_coroutine_is_used_as_it_is() -> None:
    """Only another awaitable is wrapped, because the wrapper costs a step for each write."""
    coroutine = two_steps([])

    assert coroutine_of(coroutine) is coroutine

    coroutine.close()
    other = coroutine_of(Yields("first"))  # type: ignore[arg-type]
    assert other.send(None) == "first"
    assert finish(other, "one")


# Work that is run eagerly for a task of an event loop.


class Worker:
    """A task that parks, and then finishes the work that was begun for it."""

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
        """Begin the work in a callback of the event loop, and wake the task there, as the timer of
        a writer does. Let the task finish the work, or cancel the task."""
        await anyio.wait_all_tasks_blocked()
        called = anyio.Event()

        def begin() -> None:
            try:
                self.rest = self.task.run_eagerly(work)
            except OSError:
                self.log.append("failed")
            self.parker.unpark()
            called.set()

        here = current_loop()
        here.call_at(here.time(), begin)
        await called.wait()
        await anyio.wait_all_tasks_blocked()
        if interrupt:
            self.task.cancel()
        await self.task.join(PATIENCE)


@pytest.mark.anyio
@on_every_loop
async def test_eager_work_runs_in_the_name_of_its_task() -> None:
    """The current task is the parked one from the first step of the work, before any wait, to the
    last."""
    worker, found = Worker(), list[int]()

    async def work() -> None:
        for _ in range(3):
            found.append(anyio.get_current_task().id)
            with anyio.move_on_after(PATIENCE):  # must be entered and left in the same task
                await anyio.sleep(0.001)

    await worker.do(work())

    assert found == [worker.id] * 3


@pytest.mark.anyio
@on_every_loop
async def test_work_that_does_not_wait_is_done_in_the_callback_on_asyncio() -> None:
    """Nothing is left for the task. On trio no code can run in the name of another task, so all of
    the work is left."""
    worker, log = Worker(), list[str]()

    async def work() -> None:
        log.append("done")

    await worker.do(work())

    assert log == ["done"]
    assert (worker.rest is not None) == current_loop().needs_cancel_scope


@pytest.mark.anyio
@on_every_loop
@pytest.mark.parametrize("waits", [False, True], ids=["at-once", "after-a-wait"])
async def test_an_error_of_eager_work_is_raised_where_the_work_runs(waits: bool) -> None:
    """`run_eagerly` raises the error, or the task that awaits the rest."""
    worker = Worker()

    async def work() -> None:
        if waits:
            await anyio.sleep(0.001)
        raise OSError

    await worker.do(work())

    assert (worker.log, worker.task.done) == (["failed"], True)


@pytest.mark.anyio
@on_every_loop
async def test_eager_work_is_cancelled_with_its_task() -> None:
    """The cancellation is raised where the work waits, so that the work can clean up."""
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


@pytest.mark.anyio
@on_every_loop
async def test_eager_work_that_catches_an_error_goes_on() -> None:
    """A timeout of the work's own ends its wait, and not the work."""
    worker, log = Worker(), list[str]()

    async def work() -> None:
        for _ in range(2):
            with anyio.move_on_after(0.001) as scope:
                await anyio.sleep_forever()
            log.append("timed out" if scope.cancelled_caught else "not")

    await worker.do(work())

    assert log == ["timed out", "timed out"]


@pytest.mark.anyio
@on_every_loop
async def test_eager_work_that_nobody_will_finish_can_be_closed() -> None:
    """The `finally` of the work runs, and no warning says that it was never awaited."""
    worker, log = Worker(), list[str]()

    async def work() -> None:
        try:
            log.append("begun")
            await anyio.sleep_forever()
        finally:
            log.append("finally")

    await anyio.wait_all_tasks_blocked()
    here, called = current_loop(), anyio.Event()
    rests: list[Suspended | None] = []

    def begin() -> None:
        rests.append(worker.task.run_eagerly(work()))
        called.set()

    here.call_at(here.time(), begin)
    await called.wait()
    assert rests[0] is not None
    rests[0].close()
    worker.task.cancel()
    await worker.task.join(PATIENCE)

    assert log in (["begun", "finally"], [])  # on trio it has not begun yet


class Ready:
    """An awaitable that a server's `send` may return in place of a coroutine."""

    def __init__(self) -> None:
        self.awaited = False

    def __await__(self) -> Generator[Any, Any, None]:
        self.awaited = True
        return
        yield


@pytest.mark.anyio
@on_every_loop
async def test_any_awaitable_can_be_run_eagerly() -> None:
    """Servers written in other languages return awaitables of their own types."""
    worker, ready = Worker(), Ready()

    await worker.do(ready)

    assert ready.awaited
