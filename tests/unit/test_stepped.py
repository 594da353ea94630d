"""`SteppedWork`: a coroutine behind its first step, which a task has to finish (CPython 3.11)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Generator, Iterator
from typing import Any

import pytest

from sse_batching._loop._stepped import SteppedWork

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 12), reason="has eager tasks")


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


async def await_it(suspended: SteppedWork) -> None:
    await suspended


def begun(log: list[str]) -> SteppedWork:
    """Return the rest of `two_steps` behind its first step."""
    coroutine = two_steps(log)
    return SteppedWork(coroutine, coroutine.send(None))


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
        await SteppedWork(coroutine, coroutine.send(None))
        log.append("went on")

    task = wait_for_work()
    task.send(None)
    task.close()

    assert log == ["finally"]


def waiting_for(future: asyncio.Future[None]) -> SteppedWork:
    """Return the rest of a coroutine that awaits the future."""

    async def work() -> None:
        await future

    coroutine = work()
    return SteppedWork(coroutine, coroutine.send(None))


@pytest.fixture
def future() -> Iterator[asyncio.Future[None]]:
    loop = asyncio.new_event_loop()
    yield loop.create_future()
    loop.close()


def test_others_can_await_the_future_until_the_task_does(future: asyncio.Future[None]) -> None:
    """The flag with which a future is handed to its task is set only while the task takes it."""
    task = await_it(waiting_for(future))
    other = future.__await__()

    assert next(other) is future
    future._asyncio_future_blocking = False  # as the task of `other` does
    assert task.send(None) is future

    assert future._asyncio_future_blocking
    task.close()
    other.close()


def test_a_cancellation_cancels_the_future_that_the_work_awaits(
    future: asyncio.Future[None],
) -> None:
    """`asyncio.Task.cancel` does the same. The work sees the cancellation where it waits."""
    rest = waiting_for(future)

    rest.cancel()

    assert future.cancelled()
    task = await_it(rest)
    assert task.send(None) is future  # the task waits for it, and finds it cancelled
    with pytest.raises(asyncio.CancelledError):
        task.throw(asyncio.CancelledError())


def test_a_cancellation_is_raised_where_the_work_waits_for_no_future() -> None:
    """A bare yield, or a future that is done, cannot be cancelled."""
    log = list[str]()

    async def work() -> None:
        try:
            await Yields("first")
        except asyncio.CancelledError:
            log.append(await Yields("cleaning up"))

    coroutine = work()
    rest = SteppedWork(coroutine, coroutine.send(None))
    rest.cancel()
    task = await_it(rest)

    assert task.send(None) == "cleaning up"
    assert finish(task, "done")
    assert log == ["done"]
