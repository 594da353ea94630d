"""`TimerQueues`: the timer queues of an event loop, one for each delay."""

from __future__ import annotations

import gc
from contextvars import ContextVar
from typing import Final

import pytest

from sse_batching._loop import current_loop
from sse_batching._loop._timers import TimerQueues
from tests.conftest import EVERY_LOOP, VIRTUAL_TIME, loops
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops([*VIRTUAL_TIME, *EVERY_LOOP])]

on_virtual_time = loops(VIRTUAL_TIME)

DELAY: Final = 5.0


class Waiter:
    """A waiter that is added to the queue of its delay, and records when it is called."""

    def __init__(self, delay: float, deadline: float) -> None:
        self.calls: list[float] = []
        self.queue = current_loop().timer_queues(delay)
        self._began = current_loop().time()
        self.queue.add(self, self._began + deadline)

    def on_timer(self) -> None:
        self.calls.append(round(current_loop().time() - self._began, 6))


async def test_streams_of_the_same_delay_share_a_queue() -> None:
    """Each delay has a queue: only equal delays expire in the order in which they are added."""
    queues = current_loop().timer_queues
    one = queues(0.05)

    assert queues(0.05) is one
    assert queues(0.1) is not one


async def test_a_queue_that_no_stream_uses_is_forgotten() -> None:
    """Unused queues do not accumulate, although each stream may have a delay of its own."""
    queues = TimerQueues(current_loop().call_at, current_loop().time)
    kept = queues(0.05)
    for n in range(100):
        queues(n + 1.0)
    gc.collect()

    assert list(queues.by_delay) == [0.05]
    assert queues(0.05) is kept


@on_virtual_time
async def test_a_queue_uses_the_clock_of_its_loop() -> None:
    """A waiter is called at its deadline, and not before."""
    waiter = Waiter(DELAY, DELAY)

    await advance(DELAY - 1)
    assert waiter.calls == []
    await advance(2)

    assert waiter.calls == [DELAY]


@on_virtual_time
async def test_an_early_deadline_uses_the_clock_of_its_loop() -> None:
    """An early deadline is kept by a timer of the event loop, on trio a task, until discarded."""
    last, early, discarded = Waiter(DELAY, DELAY), Waiter(DELAY, 1), Waiter(DELAY, 2)
    discarded.queue.discard(discarded)

    await advance(DELAY + 1)

    assert (last.calls, early.calls, discarded.calls) == ([DELAY], [1], [])


@on_virtual_time
async def test_a_waiter_is_called_in_an_empty_context() -> None:
    """A timer serves many requests, and must not keep alive the context of the one that set it."""
    variable, found = ContextVar[str]("variable", default="nothing"), list[str]()

    class ContextWaiter(Waiter):
        def on_timer(self) -> None:
            found.append(variable.get())

    variable.set("of the request")
    for deadline in (DELAY, 1):
        ContextWaiter(DELAY, deadline)
    await advance(DELAY + 1)

    assert found == ["nothing", "nothing"]
