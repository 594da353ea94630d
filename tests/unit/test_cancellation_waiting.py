"""Waiting for a token: in threads, in tasks of any event loop, and in both at the same time."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import anyio
import pytest
import uvloop

from sse_batching import CancellationToken
from tests.support.threads import PATIENCE, eager_switching, running, together, until

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

    for timeout in (0.001, 0, -1):
        assert token.wait(timeout) is False
    assert token.cancel()
    for timeout in (0, -1, float("inf")):
        assert token.wait(timeout) is True


def test_a_wait_that_is_over_leaves_nothing_behind() -> None:
    """A token that lives long keeps nothing of a thread that polls it."""
    token = CancellationToken()

    for _ in range(3):
        token.wait(0)

    assert not token._waiting


def test_cancel_wakes_every_thread_that_waits() -> None:
    """Every waiting thread returns True, with or without a timeout."""
    token = CancellationToken()

    with running(*[token.wait] * 3, functools.partial(token.wait, PATIENCE)) as woken:
        until(lambda: len(token._waiting) == 4)
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
        until(lambda: len(token._waiting) == 1)
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
            assert len(token._waiting) == 1
            scope.cancel()

    assert not token._waiting
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

    assert not token._waiting


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


BACKENDS: dict[str, dict[str, Any]] = {
    "asyncio": {},
    "uvloop": {"backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}
on_each_backend = pytest.mark.parametrize("backend", BACKENDS)


@contextmanager
def waiting_in_thread(
    token: CancellationToken, backend: str, waiters: int = 1
) -> Iterator[asyncio.AbstractEventLoop | None]:
    """Yield an event loop in another thread, in which tasks wait. The end joins the thread.

    None is yielded for a trio run.
    """
    loops: list[asyncio.AbstractEventLoop | None] = []
    parked = threading.Event()

    async def wait() -> None:
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                for _ in range(waiters):
                    tasks.start_soon(token.wait_async)
                await anyio.wait_all_tasks_blocked()
                loops.append(None if backend == "trio" else asyncio.get_running_loop())
                parked.set()

    with running(lambda: anyio.run(wait, **BACKENDS[backend])):
        assert parked.wait(PATIENCE)
        yield loops[0]


@in_tasks
async def test_one_cancel_wakes_tasks_of_several_loops() -> None:
    """Tasks in the event loops of several threads, of any kind, may wait for one token."""
    token = CancellationToken()

    with ExitStack() as others, anyio.fail_after(PATIENCE):
        for backend in BACKENDS:
            others.enter_context(waiting_in_thread(token, backend))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(token.wait_async)
            await anyio.wait_all_tasks_blocked()
            token.cancel()


@on_each_backend
def test_waiting_tasks_cost_no_threads(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cancel` wakes hundreds of tasks of another event loop without a thread for each."""
    token, started = CancellationToken(), list[threading.Thread]()

    with waiting_in_thread(token, backend, waiters=500):
        monkeypatch.setattr(threading.Thread, "start", started.append)
        token.cancel()

    assert started == []


@pytest.mark.parametrize("closed", [False, True], ids=["stopped", "closed"])
@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_that_has_stopped_is_no_error(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
    closed: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`cancel` leaves no thread and logs nothing where the loop of a waiting task runs no more. If
    the loop runs again, the task goes on."""
    token, loop = CancellationToken(), make_loop()
    task = loop.create_task(token.wait_async())
    loop.call_soon(loop.stop)
    loop.run_forever()
    threads = threading.enumerate()
    if closed:
        task._log_destroy_pending = False  # type: ignore[attr-defined] # dropped on purpose
        loop.close()

    assert token.cancel()

    assert threading.enumerate() == threads
    assert not caplog.records
    if not closed:
        loop.run_until_complete(asyncio.wait_for(task, PATIENCE))
        loop.close()
    assert task.done() is not closed
    assert closed or not token._waiting


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_may_go_on_in_another_thread(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """A task that began to wait in one thread is woken in the thread where its loop now runs."""
    token, loop = CancellationToken(), make_loop()
    task = loop.create_task(token.wait_async())
    loop.call_soon(loop.stop)
    loop.run_forever()

    with running(lambda: loop.run_until_complete(asyncio.wait_for(task, PATIENCE))):
        until(loop.is_running)
        token.cancel()

    assert task.done()
    loop.close()


def test_cancel_does_not_wait_for_the_loop_of_a_task_that_waits() -> None:
    """`cancel` returns while the event loop of a waiting task is blocked. That loop may be waiting
    for the caller of `cancel`."""
    token, blocked, release = CancellationToken(), threading.Event(), threading.Event()
    released_first: list[bool] = []

    def block() -> None:
        blocked.set()
        released_first.append(release.wait(1))

    with waiting_in_thread(token, "asyncio") as loop:
        assert isinstance(loop, asyncio.AbstractEventLoop)
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
    assert not token._waiting
