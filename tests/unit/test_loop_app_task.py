"""Whose cancellation is it, on asyncio: ours is taken back, somebody else's goes on its way."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from sse_batching._loop import AppTask, current_loop
from tests.conftest import REAL_TIME, VIRTUAL_ASYNCIO, loops

pytestmark = [
    pytest.mark.anyio,
    loops([*VIRTUAL_ASYNCIO, *REAL_TIME], because="Task.cancel is asyncio's"),
]

Work = Callable[[], Awaitable[object]]


async def in_task(
    work: Work, meanwhile: Callable[[asyncio.Task[Any]], object] = lambda task: None
) -> asyncio.Task[Any]:
    """Do the work in a task of its own, as a server does, and something else once it waits."""
    task = asyncio.ensure_future(work())
    await anyio.wait_all_tasks_blocked()
    meanwhile(task)
    await asyncio.wait([task], timeout=10)
    assert task.done()
    return task


def this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def app_task() -> AppTask:
    """Return the running task as the one in which the server runs the app."""
    loop = current_loop()
    return loop.app_task(loop.current_task())


async def test_our_own_cancellation_is_absorbed() -> None:
    """The host's own cancellation, caught on its way out, leaves no trace in the task."""

    async def work() -> tuple[bool, int]:
        host = app_task()
        asyncio.get_running_loop().call_soon(host.cancel)
        with pytest.raises(asyncio.CancelledError):
            await anyio.sleep_forever()
        ours = await host.uncancel(cancelled=True)
        await asyncio.sleep(0)  # is not cancelled any more
        return ours, this_task().cancelling()

    assert (await in_task(work)).result() == (True, 0)


async def test_our_own_cancellation_is_absorbed_before_it_arrives() -> None:
    """A cancellation that is still on its way when the app ends hits nobody."""

    async def work() -> tuple[bool, int]:
        host = app_task()
        host.cancel()
        ours = await host.uncancel(cancelled=False)
        await asyncio.sleep(0)
        return ours, this_task().cancelling()

    assert (await in_task(work)).result() == (True, 0)


async def test_a_cancellation_from_outside_is_not_absorbed() -> None:
    """The server's cancellation is none of ours, and is left to whoever asked for it."""

    async def work() -> tuple[bool, int]:
        host = app_task()
        with pytest.raises(asyncio.CancelledError):
            await anyio.sleep_forever()
        return await host.uncancel(cancelled=True), this_task().cancelling()

    assert (await in_task(work, asyncio.Task.cancel)).result() == (False, 1)


@pytest.mark.parametrize("outside_first", [True, False])
async def test_beside_one_from_outside_only_our_own_is_absorbed(outside_first: bool) -> None:
    """Of two cancellations that come out as one exception the server's remains."""
    hosts: list[AppTask] = []

    async def work() -> tuple[bool, int]:
        hosts.append(app_task())
        with pytest.raises(asyncio.CancelledError):
            await anyio.sleep_forever()
        return await hosts[0].uncancel(cancelled=True), this_task().cancelling()

    def cancel_both(task: asyncio.Task[Any]) -> None:
        both: list[Callable[[], object]] = [task.cancel, hosts[0].cancel]
        for cancel in both if outside_first else reversed(both):
            cancel()

    assert (await in_task(work, cancel_both)).result() == (False, 1)


async def test_one_from_outside_that_comes_during_the_absorption_is_not_swallowed() -> None:
    """The app has ended, both cancellations are on their way: the server's still arrives."""

    async def work() -> None:
        host = app_task()
        host.cancel()
        this_task().cancel()
        await host.uncancel(cancelled=False)
        await asyncio.sleep(0)

    assert (await in_task(work)).cancelled()


async def test_without_a_cancellation_there_is_nothing_to_absorb() -> None:
    """A request that ended by itself is left alone, and not even suspended."""

    async def work() -> tuple[bool, list[str]]:
        log: list[str] = []
        asyncio.get_running_loop().call_soon(log.append, "next turn")
        return await app_task().uncancel(cancelled=False), list(log)

    assert (await in_task(work)).result() == (False, [])


async def test_cancellations_from_before_the_request_do_not_count() -> None:
    """A task that was under cancellation when the request came was not cancelled during it."""

    async def work() -> tuple[bool, int]:
        with pytest.raises(asyncio.CancelledError):
            await anyio.sleep_forever()
        host = app_task()
        host.cancel()
        return await host.uncancel(cancelled=False), this_task().cancelling()

    assert (await in_task(work, asyncio.Task.cancel)).result() == (True, 1)


async def test_a_cancellation_by_a_callback_counts_as_our_own() -> None:
    """`token.register(task.cancel)` with the request's own task is not the server's doing."""

    async def work() -> tuple[bool, int]:
        host = app_task()
        host.counting_cancels(this_task().cancel)
        return await host.uncancel(cancelled=False), this_task().cancelling()

    assert (await in_task(work)).result() == (True, 0)


async def test_a_host_that_is_no_task_does_nothing() -> None:
    """Where there is no current task nothing can be cancelled, and nothing fails."""
    found: asyncio.Future[AppTask] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: found.set_result(app_task()))
    host, calls = await found, list[str]()

    host.cancel()
    host.counting_cancels(lambda: calls.append("called"))
    host.if_cancelled_outside(lambda: calls.append("never"))
    await asyncio.sleep(0)

    assert await host.uncancel(cancelled=False) is False
    assert calls == ["called"]


# Who cancelled, asked in the midst of it.


class Asking:
    """A wait that asks, when it is cancelled, whether that came from outside."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.host = app_task()

    async def wait(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.host.if_cancelled_outside(lambda: self.log.append("from outside"))


async def by_the_server(asking: Asking) -> None:
    asyncio.get_running_loop().call_soon(this_task().cancel)
    await asking.wait()


async def by_ourselves(asking: Asking) -> None:
    asyncio.get_running_loop().call_soon(asking.host.cancel)
    await asking.wait()


async def by_both(asking: Asking) -> None:
    asyncio.get_running_loop().call_soon(asking.host.cancel)
    await by_the_server(asking)


async def by_a_scope(asking: Asking) -> None:
    with anyio.move_on_after(0.001):
        await asking.wait()


async def by_a_scope_that_is_slow_to_leave(asking: Asking) -> None:
    with anyio.move_on_after(0.001):
        try:
            await asking.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.001)


async def by_a_timeout(asking: Asking) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await asking.wait()


async def in_a_task_group(asking: Asking) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asking.wait)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()


async def in_a_task_of_its_own(asking: Asking) -> None:
    task = asyncio.ensure_future(asking.wait())
    await anyio.wait_all_tasks_blocked()
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize(
    ("cancelled", "log"),
    [
        (by_the_server, ["from outside"]),
        (by_both, ["from outside"]),
        (by_ourselves, []),
        (by_a_scope, []),
        (by_a_scope_that_is_slow_to_leave, []),
        (by_a_timeout, []),
        (in_a_task_group, []),
        (in_a_task_of_its_own, []),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_the_servers_cancellation_is_told_from_all_others(
    cancelled: Callable[[Asking], Awaitable[None]], log: list[str]
) -> None:
    """Only what the server, or somebody around the app, has cancelled came from outside."""
    asked: list[Asking] = []

    async def work() -> None:
        asked.append(Asking())
        await cancelled(asked[0])
        await anyio.sleep(0.001)

    await in_task(work)
    await asyncio.sleep(0)

    assert asked[0].log == log


async def test_the_servers_cancellation_is_known_in_the_next_turn() -> None:
    """A server that shuts down leaves one turn of the loop, and that is enough."""
    turns: list[str] = []

    async def work() -> None:
        host = app_task()
        try:
            await anyio.sleep_forever()
        finally:
            host.if_cancelled_outside(lambda: turns.append("known"))
            asyncio.get_running_loop().call_soon(turns.append, "turn over")

    await in_task(work, asyncio.Task.cancel)
    await asyncio.sleep(0)

    assert turns == ["known", "turn over"]


# Tasks of ours.


async def test_what_a_task_raised_is_not_raised_by_the_join() -> None:
    """`join` is for cleaning up: it does not fail with what it cleans up."""

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


# Waits that others can cut short.


@pytest.mark.parametrize("interruptions", [1, 2])
async def test_an_interruption_leaves_no_cancellation_behind(interruptions: int) -> None:
    """However often a wait is cut short, the task is under no cancellation afterwards."""

    async def work() -> tuple[bool, int]:
        wait = current_loop().interruptible()
        for _ in range(interruptions):
            asyncio.get_running_loop().call_soon(wait.interrupt)
        with wait:
            await anyio.sleep_forever()
        return wait.interrupted, this_task().cancelling()

    assert (await in_task(work)).result() == (True, 0)


async def test_an_interruption_that_is_swallowed_leaves_no_cancellation_behind() -> None:
    """A server's `receive` may return a message although it was cancelled: the wait is over."""

    async def work() -> tuple[bool, int]:
        wait = current_loop().interruptible()
        asyncio.get_running_loop().call_soon(wait.interrupt)
        with wait, pytest.raises(asyncio.CancelledError):
            await anyio.sleep_forever()
        return wait.interrupted, this_task().cancelling()

    assert (await in_task(work)).result() == (False, 0)


@pytest.mark.parametrize("outside_first", [True, False])
async def test_a_cancellation_beside_an_interruption_goes_on(outside_first: bool) -> None:
    """Where somebody else has cancelled the task as well, that cancellation is not taken back."""

    async def work() -> None:
        wait = current_loop().interruptible()
        both: list[Callable[[], object]] = [this_task().cancel, wait.interrupt]
        for cancel in both if outside_first else reversed(both):
            asyncio.get_running_loop().call_soon(cancel)
        with wait:
            await anyio.sleep_forever()

    assert (await in_task(work)).cancelled()
