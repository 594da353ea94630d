"""Waiting for a token: in threads, in tasks of any event loop, and in both at the same time."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from sse_batching import CancellationToken, cancellation
from tests.support.threads import PATIENCE, eager_switching, running, together, until_blocked

in_tasks = pytest.mark.anyio


# Threads.


def test_wait_returns_at_once_if_the_token_is_cancelled() -> None:
    """A wait for a cancelled token does not block."""
    token = CancellationToken()
    token.cancel()

    assert token.wait() is True


def test_wait_returns_after_the_timeout() -> None:
    """A wait that times out returns False, and the token can still be cancelled."""
    token = CancellationToken()

    assert token.wait(0.001) is False
    assert token.wait(0) is False
    assert token.cancel()
    assert token.wait(0) is True


def test_cancel_wakes_every_thread_that_waits() -> None:
    """Every waiting thread returns True, with or without a timeout."""
    token = CancellationToken()

    with running(*[token.wait] * 3, functools.partial(token.wait, PATIENCE)) as woken:
        until_blocked(cancellation, threads=4)
        token.cancel()

    assert [future.result() for future in woken] == [True] * 4


def test_a_wait_that_begins_during_the_cancellation_does_not_miss_it() -> None:
    """Threads that begin to wait at the moment of the cancellation return as well."""
    for _ in range(50):
        token = CancellationToken()
        with eager_switching():
            assert together([token.wait, token.wait, token.cancel]) == [True] * 3


def test_threads_are_woken_before_the_callbacks_run() -> None:
    """A callback can wait for a thread that is waiting for the token."""
    token, stopped = CancellationToken(), threading.Event()
    results: list[bool] = []

    def work() -> None:
        token.wait()
        stopped.set()

    token.register(lambda: results.append(stopped.wait(PATIENCE)))
    with running(work):
        until_blocked(cancellation, threads=1)
        token.cancel()

    assert results == [True]


# Tasks.


@in_tasks
async def test_wait_async_returns_at_once_if_the_token_is_cancelled() -> None:
    """A wait for a cancelled token ends by itself."""
    token = CancellationToken()
    token.cancel()

    with anyio.fail_after(PATIENCE):
        await token.wait_async()


@in_tasks
async def test_cancel_in_the_same_loop_wakes_every_task_that_waits() -> None:
    """All waiting tasks go on when another task cancels the token."""
    token, woken = CancellationToken(), list[int]()

    async def wait(n: int) -> None:
        await token.wait_async()
        woken.append(n)

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            for n in range(5):
                tasks.start_soon(wait, n)
            await anyio.wait_all_tasks_blocked()
            assert woken == []
            token.cancel()

    assert sorted(woken) == list(range(5))


@in_tasks
async def test_cancel_in_a_thread_wakes_the_task_that_waits() -> None:
    """A cancellation from another thread wakes an event loop that has nothing else to do."""
    token = CancellationToken()

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(token.wait_async)
            await anyio.wait_all_tasks_blocked()
            assert await anyio.to_thread.run_sync(token.cancel)


@in_tasks
async def test_a_cancelled_wait_leaves_nothing_registered() -> None:
    """A task that is cancelled while it waits unregisters its callback. Pitfall 31."""
    token = CancellationToken()

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(token.wait_async)
            await anyio.wait_all_tasks_blocked()
            assert len(token._callbacks) == 1
            scope.cancel()

    assert not token._callbacks
    assert token.cancel()


@in_tasks
async def test_a_wait_that_ended_leaves_nothing_registered() -> None:
    """A wait that ends with the cancellation leaves no callback behind. Pitfall 31."""
    token = CancellationToken()

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(token.wait_async)
            await anyio.wait_all_tasks_blocked()
            token.cancel()

    assert not token._callbacks


@in_tasks
async def test_a_wait_for_a_cancelled_token_can_be_cancelled() -> None:
    """A cancelled task does not go on behind the wait, even if the token is already cancelled."""
    token, went_on = CancellationToken(), False
    token.cancel()

    with anyio.CancelScope() as scope:
        scope.cancel()
        await token.wait_async()
        went_on = True

    assert not went_on


@in_tasks
async def test_a_cancelled_wait_leaves_other_tasks_waiting() -> None:
    """A task that is cancelled while it waits does not cancel the token for others. Pitfall 55."""
    token, woken = CancellationToken(), list[int]()

    async def wait(n: int) -> None:
        await token.wait_async()
        woken.append(n)

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, 1)
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as others:
                    others.start_soon(wait, 2)
                    await anyio.wait_all_tasks_blocked()
                    scope.cancel()
            await anyio.wait_all_tasks_blocked()
            assert woken == []
            assert not token.cancelled
            token.cancel()

    assert woken == [1]


# Several event loops.


@contextmanager
def waiting_in_thread(token: CancellationToken) -> Iterator[asyncio.AbstractEventLoop]:
    """Yield an event loop in another thread, in which a task waits. The end joins the thread."""
    loops: list[asyncio.AbstractEventLoop] = []
    parked = threading.Event()

    async def wait() -> None:
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(token.wait_async)
                await anyio.wait_all_tasks_blocked()
                loops.append(asyncio.get_running_loop())
                parked.set()

    with running(lambda: anyio.run(wait)):
        assert parked.wait(PATIENCE)
        yield loops[0]


@in_tasks
async def test_one_cancel_wakes_tasks_of_several_loops() -> None:
    """Tasks in the event loops of several threads may wait for one token."""
    token = CancellationToken()

    with waiting_in_thread(token), waiting_in_thread(token), anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(token.wait_async)
            await anyio.wait_all_tasks_blocked()
            token.cancel()


def test_cancel_does_not_wait_for_the_loop_of_a_task_that_waits() -> None:
    """`cancel` returns while the event loop of a waiting task is blocked. That loop may be waiting
    for the caller of `cancel`."""
    token, blocked, release = CancellationToken(), threading.Event(), threading.Event()
    released_first: list[bool] = []

    def block() -> None:
        blocked.set()
        released_first.append(release.wait(1))

    with waiting_in_thread(token) as loop:
        loop.call_soon_threadsafe(block)
        assert blocked.wait(PATIENCE)
        token.cancel()
        release.set()

    assert released_first == [True]


def test_cancel_does_not_fail_when_the_loop_of_a_wait_has_ended() -> None:
    """An event loop that ended while a task waited in it makes no later `cancel` fail."""
    token = CancellationToken()

    async def leave_a_task_waiting() -> None:
        task = asyncio.ensure_future(token.wait_async())
        await anyio.wait_all_tasks_blocked()
        assert not task.done()

    anyio.run(leave_a_task_waiting)

    assert token.cancel()
    assert not token._callbacks
