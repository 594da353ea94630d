"""`Task.run_eagerly`: work that the timer begins, and that a parked task has to finish."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any

import anyio
import pytest

from sse_batching._loop import Suspended, current_loop
from tests.conftest import REAL_TIME, VIRTUAL_ASYNCIO, loops
from tests.support.threads import PATIENCE

pytestmark = [
    pytest.mark.anyio,
    loops([*VIRTUAL_ASYNCIO, *REAL_TIME], because="no code runs in the name of a task on trio"),
]

variable: ContextVar[str] = ContextVar("variable", default="nothing")


class Worker:
    """A task that parks, and then finishes the work that was begun for it, as a writer does."""

    def __init__(self) -> None:
        self.parker = current_loop().parker()
        self.rest: Suspended | None = None
        self.log: list[str] = []
        self.context = copy_context()
        self.task = current_loop().spawn(self._run, self.context)

    async def _run(self) -> None:
        try:
            await self.parker.park()
        except asyncio.CancelledError:
            if self.rest is None:
                raise
            self.rest.cancel()
        if self.rest is not None:
            try:
                await self.rest
            except OSError as error:
                self.log.append(type(error).__name__)

    async def do(
        self, work: Coroutine[Any, Any, None], *, then: Callable[[], object] = lambda: None
    ) -> None:
        """Begin the work in a callback of the event loop, and wake the task there, as the timer of
        a writer does. Call `then` in the same callback. Wait for the end of the task."""
        await anyio.wait_all_tasks_blocked()
        called = anyio.Event()

        def begin() -> None:
            try:
                self.rest = self.task.run_eagerly(work)
            except OSError as error:
                self.log.append(type(error).__name__)
            self.parker.unpark()
            then()
            called.set()

        here = current_loop()
        here.call_at(here.time(), begin)
        await called.wait()
        await self.task.join(PATIENCE)
        assert self.task.done


async def test_all_of_the_work_runs_in_one_task() -> None:
    """The current task is the same from the first step of the work, before any wait, to the last.
    So cancel scopes and timeouts work in it."""
    found = list[int]()

    async def work() -> None:
        for _ in range(3):
            found.append(anyio.get_current_task().id)
            with anyio.move_on_after(PATIENCE):  # must be entered and left in the same task
                await anyio.sleep(0.001)

    await Worker().do(work())

    assert len(found) == 3
    assert len({*found, anyio.get_current_task().id}) == 2


async def test_all_of_the_work_runs_in_the_context_of_the_task() -> None:
    """A context variable can be reset behind a wait, and what the work leaves in a variable is left
    in the context of the task."""
    worker = Worker()

    async def work() -> None:
        token = variable.set("for a while")
        await anyio.sleep(0.001)
        variable.reset(token)
        variable.set("for good")

    await worker.do(work())

    assert worker.context[variable] == "for good"
    assert variable.get() == "nothing"


async def test_work_that_does_not_wait_is_done_in_the_callback() -> None:
    """Nothing is left for the task, which need not have been woken."""
    worker, log = Worker(), list[str]()

    async def work() -> None:
        log.append("done")

    await worker.do(work(), then=lambda: log.append("callback ends"))

    assert log == ["done", "callback ends"]
    assert worker.rest is None


@pytest.mark.parametrize("waits", [False, True], ids=["at-once", "after-a-wait"])
async def test_an_error_of_the_work_is_raised_where_the_work_runs(waits: bool) -> None:
    """`run_eagerly` raises the error, or the task that awaits the rest."""
    worker = Worker()

    async def work() -> None:
        if waits:
            await anyio.sleep(0.001)
        raise ConnectionResetError

    await worker.do(work())

    assert worker.log == ["ConnectionResetError"]


@pytest.mark.parametrize("when", ["in-the-callback", "in-the-work", "later"])
async def test_a_cancellation_of_the_task_reaches_the_work_once(when: str) -> None:
    """The work sees a cancellation where it waits, and can await something else to clean up, also
    if the task was cancelled before it had taken over the work."""
    worker, log = Worker(), list[str]()

    async def work() -> None:
        try:
            if when == "in-the-work":
                worker.task.cancel()
            await anyio.sleep(PATIENCE)
        except asyncio.CancelledError:
            log.append("cancelled")
            await asyncio.sleep(0.001)
            log.append("cleaned up")
            raise

    def begun() -> None:
        if when == "in-the-callback":
            worker.task.cancel()
        elif when == "later":
            asyncio.get_running_loop().call_later(0.01, worker.task.cancel)

    await worker.do(work(), then=begun)

    assert log == ["cancelled", "cleaned up"]


async def test_a_timeout_of_the_work_ends_its_wait_only() -> None:
    """A timeout that expires before the task has taken over the work ends the wait of the work, and
    neither the work nor the task."""
    worker, log = Worker(), list[str]()

    async def work() -> None:
        for seconds in (-1, 0, 0.001):
            try:
                async with asyncio.timeout(seconds):
                    await asyncio.sleep(PATIENCE)
            except TimeoutError:
                log.append("timed out")
            with anyio.move_on_after(seconds) as scope:
                await asyncio.sleep(PATIENCE)
            log.append("moved on" if scope.cancelled_caught else "waited")
        log.append("ended")

    await worker.do(work())

    assert log == [*["timed out", "moved on"] * 3, "ended"]
    assert not worker.task.cancel_requested


async def test_a_future_that_the_work_awaits_can_be_awaited_by_others_at_once() -> None:
    """Flow control of a shared connection is one future, which several writes await."""
    future = asyncio.get_running_loop().create_future()
    innocent, log = list[asyncio.Task[None]](), list[str]()

    async def work() -> None:
        await future
        log.append("went on")

    def begun() -> None:
        innocent.append(asyncio.create_task(work()))
        if len(innocent) == 3:
            asyncio.get_running_loop().call_later(0.01, future.set_result, None)

    async with anyio.create_task_group() as tasks:
        for worker in (Worker(), Worker(), Worker()):
            tasks.start_soon(partial(worker.do, work(), then=begun))
    await asyncio.gather(*innocent)

    assert log == ["went on"] * 6


async def test_work_that_cancels_itself_does_not_cancel_the_task() -> None:
    """A future that the work awaits, and that somebody cancels, ends the work alone."""
    worker, future = Worker(), asyncio.get_running_loop().create_future()

    async def work() -> None:
        await future

    await worker.do(work(), then=future.cancel)

    assert not worker.task.cancel_requested
