"""`LoopLatency`: how long the current loop iteration has lasted."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from sse_batching._loop import LoopLatency, current_loop
from sse_batching._loop._latency import MAX_ITERATION
from tests.conftest import EVERY_LOOP, VIRTUAL_TIME, loops

on_every_loop = loops([*VIRTUAL_TIME, *EVERY_LOOP])


class Iterations:
    """An event loop whose iterations a test ends by hand."""

    def __init__(self) -> None:
        self.scheduled: list[Callable[[], object]] = []
        self.latency = LoopLatency(self.scheduled.append)

    def end(self) -> None:
        """End the current iteration: run the callbacks that it has scheduled."""
        scheduled, self.scheduled[:] = self.scheduled[:], []
        for callback in scheduled:
            callback()


def test_an_iteration_is_too_long_after_the_limit() -> None:
    """The time counts from the first call in the iteration, on the clock of the caller."""
    latency = Iterations().latency

    too_long = [latency.too_long(now) for now in (10, 10, 10 + MAX_ITERATION, 10.5, 11)]

    assert too_long == [False, False, False, True, True]


def test_up_to_the_limit_no_call_is_needed() -> None:
    """`limit` spares the fast path a call: until then `too_long` returns False and does nothing."""
    iterations = Iterations()
    latency = iterations.latency
    assert latency.limit == 0

    latency.too_long(10)
    iterations.end()

    assert latency.limit == 10 + MAX_ITERATION
    assert not latency.too_long(latency.limit)
    assert (latency.iteration, iterations.scheduled) == (1, [])


def test_an_iteration_schedules_one_callback() -> None:
    """However often `too_long` is called, it schedules one callback in each iteration."""
    iterations = Iterations()

    for now in (10, 11, 12):
        iterations.latency.too_long(now)

    assert len(iterations.scheduled) == 1


def test_each_sampled_iteration_has_its_own_number() -> None:
    """The number tells a caller whether it is still in the iteration of its last call."""
    iterations, numbers = Iterations(), list[int]()
    for now in (10, 14, 18, 22):
        iterations.latency.too_long(now)
        numbers.append(iterations.latency.iteration)
        if now == 14:
            iterations.end()

    assert numbers == [1, 1, 2, 2]


def test_a_late_iteration_is_not_too_long() -> None:
    """Only the length of the iteration counts, not how much time has passed before it."""
    iterations = Iterations()
    iterations.latency.too_long(10)
    iterations.end()

    assert not iterations.latency.too_long(17)
    assert iterations.latency.too_long(19)


@pytest.mark.anyio
@on_every_loop
async def test_a_task_that_yields_begins_another_iteration() -> None:
    """On every event loop, the iteration of a task ends when the task yields."""
    here = current_loop()
    await anyio.wait_all_tasks_blocked()
    here.latency.too_long(1000.0)
    assert here.latency.too_long(1004.0)
    number = here.latency.iteration

    await here.checkpoint()
    await anyio.wait_all_tasks_blocked()

    assert not here.latency.too_long(1007.0)
    assert here.latency.iteration == number + 1
    assert here.latency.too_long(1009.0)


@pytest.mark.anyio
@on_every_loop
async def test_all_tasks_of_an_iteration_share_its_time() -> None:
    """Tasks that run one after the other in one iteration delay the other tasks together."""
    latency, too_long = current_loop().latency, list[bool]()
    await anyio.wait_all_tasks_blocked()
    times = iter([1000.0, 1004.0, 1008.0])

    async def work() -> None:
        too_long.append(latency.too_long(next(times)))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(work)

    assert too_long == [False, True, True]
