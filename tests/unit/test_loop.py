"""`Loop` on every event loop: its time, its timers, its tasks, and calls from other threads."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable

import anyio
import pytest
import uvloop

from sse_batching._loop import Loop, current_loop
from tests.conftest import EVERY_LOOP, REAL_TIME, VIRTUAL_ASYNCIO, VIRTUAL_TIME, loops
from tests.support.threads import PATIENCE, running

pytestmark = [pytest.mark.anyio, loops([*VIRTUAL_TIME, *EVERY_LOOP])]

on_real_time = loops(EVERY_LOOP)
on_virtual_time = loops(VIRTUAL_TIME)


# The loop.


async def test_current_loop_is_one_for_each_event_loop() -> None:
    """All requests of an event loop share its `Loop`, which has the clock of the event loop."""
    assert current_loop() is current_loop()
    assert anyio.current_time() <= current_loop().time() <= anyio.current_time()


async def test_another_event_loop_has_another_loop() -> None:
    """An event loop in another thread has its own `Loop`, and so has a later one in that thread."""

    async def loop_there() -> Loop:
        return current_loop()

    there: list[Loop] = []
    with running(lambda: there.extend(anyio.run(loop_there) for _ in range(2))):
        pass

    assert len({id(each) for each in (current_loop(), *there)}) == 3


async def test_the_current_task_is_found() -> None:
    """`app_task` accepts what `current_task` returns, in the task itself."""
    here = current_loop()

    app_task = here.app_task(here.current_task())

    with app_task.scope:
        assert app_task.app_ended(cancelled=False) is False


# Calls from threads.


async def test_run_in_loop_calls_now_in_the_thread_of_the_loop() -> None:
    """In the thread of the event loop, the callback has run when `run_in_loop` returns."""
    calls: list[int] = []

    current_loop().run_in_loop(lambda: calls.append(threading.get_ident()))

    assert calls == [threading.get_ident()]


@on_real_time
async def test_run_in_loop_calls_in_the_thread_of_the_loop_from_another_thread() -> None:
    """A callback from another thread runs in the thread of the event loop, and wakes the loop."""
    here, called, calls = current_loop(), anyio.Event(), list[int]()

    def call() -> None:
        calls.append(threading.get_ident())
        called.set()

    with running(lambda: here.run_in_loop(call)), anyio.fail_after(PATIENCE):
        await called.wait()

    assert calls == [threading.get_ident()]


async def test_in_loop_is_true_in_the_thread_of_the_loop_only() -> None:
    """`in_loop` can be called in any thread."""
    here, in_thread = current_loop(), list[bool]()

    with running(lambda: in_thread.append(here.in_loop())):
        pass

    assert (here.in_loop(), in_thread) == (True, [False])


def test_run_in_loop_does_nothing_once_the_loop_has_ended() -> None:
    """A thread that outlives the event loop, such as an agent's, calls nobody and does not fail."""

    async def loop_there() -> Loop:
        return current_loop()

    there: list[Loop] = []
    with running(lambda: there.append(anyio.run(loop_there))):
        pass
    calls: list[str] = []

    there[0].run_in_loop(lambda: calls.append("called"))

    assert calls == []


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_event_loop_may_run_in_one_thread_and_then_in_another(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """`in_loop` is true where the event loop runs now, and not where it ran first: for a warm-up
    request, or in a thread whose id is used again. Pitfall 73."""
    loop = make_loop()

    async def here() -> Loop:
        assert current_loop().in_loop()
        return current_loop()

    first = loop.run_until_complete(here())
    assert not first.in_loop()
    with running(lambda: loop.run_until_complete(here())) as there:
        pass
    assert there[0].result() is first
    loop.close()


def test_a_thread_id_that_is_used_again_is_another_thread() -> None:
    """A loop that has ended does not take a later loop of the same thread for itself."""

    async def here() -> Loop:
        return current_loop()

    async def ask(earlier: Loop) -> bool:
        return earlier.in_loop()

    for backend in ("asyncio", "trio"):
        earlier = anyio.run(here, backend=backend)
        assert not earlier.in_loop()
        assert not anyio.run(ask, earlier, backend=backend)


# Timers.


async def test_a_timer_can_be_cancelled() -> None:
    """A cancelled timer does not call back. Another timer for the same time does."""
    here, calls, called = current_loop(), list[str](), anyio.Event()
    due = here.time() + 0.01
    here.call_at(due, lambda: calls.append("cancelled")).cancel()
    here.call_at(due, called.set)

    with anyio.fail_after(PATIENCE):
        await called.wait()

    assert calls == []
    assert here.time() >= due - 0.001  # a clock tick


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
    """`cancel` ends a task that would wait without end, and its `finally` runs."""
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
async def test_a_join_returns_after_its_timeout() -> None:
    """`join` does not wait any longer for a task that does not end in time."""
    here = current_loop()
    task, began = here.spawn(anyio.sleep_forever), here.time()

    await task.join(3)

    assert here.time() - began == pytest.approx(3)
    assert not task.done
    task.cancel()
    await task.join(3)
    assert task.done


@loops([*VIRTUAL_ASYNCIO, *REAL_TIME], because="an exception of a trio system task ends the run")
async def test_a_join_does_not_raise_the_exception_of_the_task() -> None:
    """`join` is called during cleanup, which must not fail with what it cleans up. The exception
    still reaches the event loop's exception handler."""

    async def fail() -> None:
        raise ValueError

    loop, unseen = asyncio.get_running_loop(), list[object]()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda loop, context: unseen.append(context["exception"]))
    try:
        task = current_loop().spawn(fail)
        await task.join(10)
        assert task.done
        del task
        gc.collect()
    finally:
        loop.set_exception_handler(before)

    assert [type(error) for error in unseen] == [ValueError]
