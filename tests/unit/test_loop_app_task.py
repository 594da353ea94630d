"""`AppTask` on asyncio: it undoes its own cancellations, and leaves those from outside alone."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final

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
    """Do the work in a task of its own, as a server does. Call `meanwhile` once the task waits."""
    task = asyncio.ensure_future(work())
    await anyio.wait_all_tasks_blocked()
    meanwhile(task)
    await asyncio.wait([task], timeout=10)
    assert task.done()
    return task


def running_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def running_app_task() -> AppTask:
    """Return the running task as the one in which the server runs the app."""
    loop = current_loop()
    return loop.app_task(loop.current_task())


async def end(app_task: AppTask, *, cancelled: bool) -> bool:
    """End a request as `_finish` does. Return True if it was cancelled from outside."""
    outside = app_task.app_ended(cancelled=cancelled)
    while not app_task.settled:
        try:
            await app_task.settle()
        except asyncio.CancelledError:
            outside = app_task.cancellation_arrived() or outside
    app_task.uncancel()
    return outside


# Undoing.


async def test_our_own_cancellation_is_undone() -> None:
    """A cancellation by `AppTask.cancel` that came out of the app leaves no trace in the task."""

    async def work() -> tuple[bool, int]:
        app_task = running_app_task()
        asyncio.get_running_loop().call_soon(app_task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await anyio.sleep_forever()
        outside = await end(app_task, cancelled=True)
        await asyncio.sleep(0)  # is not cancelled any more
        return outside, running_task().cancelling()

    assert (await in_task(work)).result() == (False, 0)


async def test_our_own_cancellation_is_undone_before_it_arrives() -> None:
    """A cancellation that is still on its way when the app ends interrupts nobody."""

    async def work() -> tuple[bool, int]:
        app_task = running_app_task()
        app_task.cancel()
        outside = await end(app_task, cancelled=False)
        await asyncio.sleep(0)
        return outside, running_task().cancelling()

    assert (await in_task(work)).result() == (False, 0)


async def test_a_cancellation_from_outside_is_not_undone() -> None:
    """The server's cancellation is not ours to undo, and the task stays cancelled."""

    async def work() -> tuple[bool, int]:
        app_task = running_app_task()
        with pytest.raises(asyncio.CancelledError):
            await anyio.sleep_forever()
        return await end(app_task, cancelled=True), running_task().cancelling()

    assert (await in_task(work, asyncio.Task.cancel)).result() == (True, 1)


async def test_a_cancellation_from_outside_that_the_app_has_swallowed_is_known() -> None:
    """The server has cancelled the request, also if the app then ends as if it had not."""

    async def work() -> tuple[bool, int]:
        app_task = running_app_task()
        with pytest.raises(asyncio.CancelledError):
            await anyio.sleep_forever()
        return await end(app_task, cancelled=False), running_task().cancelling()

    assert (await in_task(work, asyncio.Task.cancel)).result() == (True, 1)


@pytest.mark.parametrize("outside_first", [True, False])
async def test_beside_one_from_outside_only_our_own_is_undone(outside_first: bool) -> None:
    """Two cancellations come out of the app as one exception, and the server's remains."""
    app_tasks: list[AppTask] = []

    async def work() -> tuple[bool, int]:
        app_tasks.append(running_app_task())
        with pytest.raises(asyncio.CancelledError):
            await anyio.sleep_forever()
        return await end(app_tasks[0], cancelled=True), running_task().cancelling()

    def cancel_both(task: asyncio.Task[Any]) -> None:
        both: list[Callable[[], object]] = [task.cancel, app_tasks[0].cancel]
        for cancel in both if outside_first else reversed(both):
            cancel()

    assert (await in_task(work, cancel_both)).result() == (True, 1)


@pytest.mark.parametrize("iteration", range(3))
async def test_one_from_outside_that_comes_during_the_end_is_known(iteration: int) -> None:
    """Whenever the server cancels while a cancellation of our own is on its way, it is known."""

    async def work() -> tuple[bool, int]:
        app_task = running_app_task()
        app_task.counting_cancels(running_task().cancel)
        later = loop_iterations(iteration, running_task().cancel)
        outside = await end(app_task, cancelled=False)
        arrived = later.done()
        return outside == arrived, running_task().cancelling() - arrived

    assert (await in_task(work)).result() == (True, 0)


def loop_iterations(count: int, callback: Callable[[], object]) -> asyncio.Future[None]:
    """Call back after so many loop iterations. The future is done then."""
    loop = asyncio.get_running_loop()
    called: asyncio.Future[None] = loop.create_future()

    def count_down(left: int) -> None:
        if left:
            loop.call_soon(count_down, left - 1)
        else:
            called.set_result(None)
            callback()

    count_down(count)
    return called


async def test_without_a_cancellation_there_is_nothing_to_undo() -> None:
    """A request that ended by itself is settled, and its end need not suspend."""

    async def work() -> tuple[bool, list[str]]:
        log: list[str] = []
        asyncio.get_running_loop().call_soon(log.append, "next iteration")
        return await end(running_app_task(), cancelled=False), list(log)

    assert (await in_task(work)).result() == (False, [])


async def test_cancellations_from_before_the_request_do_not_count() -> None:
    """A task that had been cancelled before the request began was not cancelled during it."""

    async def work() -> tuple[bool, int]:
        with pytest.raises(asyncio.CancelledError):
            await anyio.sleep_forever()
        app_task = running_app_task()
        app_task.cancel()
        return await end(app_task, cancelled=False), running_task().cancelling()

    assert (await in_task(work, asyncio.Task.cancel)).result() == (False, 1)


Callback = tuple[Callable[..., object], *tuple[object, ...]]
"""What is registered with a token to cancel the running task: a function and its arguments."""


def now() -> Callback:
    return (running_task().cancel,)


def soon() -> Callback:
    return asyncio.get_running_loop().call_soon, running_task().cancel


def soon_threadsafe() -> Callback:
    return asyncio.get_running_loop().call_soon_threadsafe, running_task().cancel


def partly() -> Callback:
    return functools.partial(asyncio.get_running_loop().call_soon), running_task().cancel


def by_a_function() -> Callback:
    task = running_task()
    return (lambda: task.cancel(),)


def soon_by_a_function() -> Callback:
    loop, task = asyncio.get_running_loop(), running_task()
    return (lambda: loop.call_soon_threadsafe(task.cancel),)


CALLBACKS: Final = [now, soon, soon_threadsafe, partly, by_a_function, soon_by_a_function]


@pytest.mark.parametrize("callback", CALLBACKS)
@pytest.mark.parametrize("waits", [False, True])
async def test_a_cancellation_by_a_callback_counts_as_our_own(
    callback: Callable[[], Callback], waits: bool
) -> None:
    """A callback of the token that cancels the request's own task, now or in the next loop
    iteration, is not taken for the server."""

    async def work() -> tuple[bool, int]:
        app_task = running_app_task()
        app_task.counting_cancels(*callback())
        cancelled = False
        if waits:
            try:
                await anyio.sleep_forever()
            except asyncio.CancelledError:
                cancelled = True
        return await end(app_task, cancelled=cancelled), running_task().cancelling()

    assert (await in_task(work)).result() == (False, 0)


@loops(REAL_TIME, because="a thread takes real time")
@pytest.mark.parametrize("callback", [soon_threadsafe, soon_by_a_function])
async def test_a_callback_that_a_thread_calls_counts_as_our_own(
    callback: Callable[[], Callback],
) -> None:
    """A stop button in another thread cancels with `call_soon_threadsafe`. That is not the
    server."""

    async def work() -> tuple[bool, int]:
        app_task = running_app_task()
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, app_task.counting_cancels, *callback())
        with pytest.raises(asyncio.CancelledError):
            await anyio.sleep_forever()
        return await end(app_task, cancelled=True), running_task().cancelling()

    assert (await in_task(work)).result() == (False, 0)


@loops(REAL_TIME, because="a thread takes real time")
async def test_a_thread_that_goes_on_after_its_callback_does_not_delay_the_end() -> None:
    """What a thread has cancelled counts as our own at once, also while its callbacks still run."""

    async def work() -> tuple[bool, int]:
        app_task, (schedule, *arguments) = running_app_task(), soon_threadsafe()
        go_on = threading.Event()

        def cancel_and_go_on() -> None:
            schedule(*arguments)
            go_on.wait(10)

        loop = asyncio.get_running_loop()
        thread = loop.run_in_executor(None, app_task.counting_cancels, cancel_and_go_on)
        with pytest.raises(asyncio.CancelledError):
            await anyio.sleep_forever()
        ended = await end(app_task, cancelled=True), running_task().cancelling()
        go_on.set()
        await thread
        return ended

    assert (await in_task(work)).result() == (False, 0)


@pytest.mark.parametrize("callback", CALLBACKS)
async def test_a_cancellation_by_other_code_between_two_callbacks_is_not_our_own(
    callback: Callable[[], Callback],
) -> None:
    """Only what a callback schedules counts, and not what runs in the same loop iteration."""

    async def work() -> tuple[bool, int]:
        app_task, loop = running_app_task(), asyncio.get_running_loop()
        loop.call_soon(running_task().cancel)
        app_task.counting_cancels(*callback())
        app_task.counting_cancels(*callback())
        loop.call_soon(running_task().cancel)
        with pytest.raises(asyncio.CancelledError):
            await anyio.sleep_forever()
        return await end(app_task, cancelled=True), running_task().cancelling()

    assert (await in_task(work)).result() == (True, 2)


async def test_a_callback_that_cancels_and_raises_counts_as_our_own() -> None:
    """A `KeyboardInterrupt` of a later callback does not hide what an earlier one has cancelled."""

    async def work() -> tuple[bool, int]:
        app_task = running_app_task()

        def cancel_and_raise() -> None:
            running_task().cancel()
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            app_task.counting_cancels(cancel_and_raise)
        return await end(app_task, cancelled=False), running_task().cancelling()

    assert (await in_task(work)).result() == (False, 0)


async def test_after_the_end_of_the_app_nothing_is_cancelled() -> None:
    """A timer that is late does not cancel a task that has gone on with other work."""

    async def work() -> int:
        app_task = running_app_task()
        await end(app_task, cancelled=False)
        app_task.cancel()
        return running_task().cancelling()

    assert (await in_task(work)).result() == 0


async def test_outside_a_task_there_is_nothing_to_cancel() -> None:
    """In a callback of the event loop there is no current task, and no method fails."""
    found: asyncio.Future[AppTask] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: found.set_result(running_app_task()))
    app_task, calls = await found, list[str]()

    app_task.cancel()
    app_task.counting_cancels(lambda: calls.append("called"))
    app_task.if_cancelled_outside(lambda: calls.append("never"))
    await asyncio.sleep(0)

    assert await end(app_task, cancelled=False) is False
    assert calls == ["called"]


# Who has cancelled.


class Wait:
    """A wait that asks, when it is cancelled, whether the cancellation came from outside."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.app_task = running_app_task()

    async def wait(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.app_task.if_cancelled_outside(lambda: self.log.append("from outside"))


async def by_the_server(wait: Wait) -> None:
    asyncio.get_running_loop().call_soon(running_task().cancel)
    await wait.wait()


async def by_ourselves(wait: Wait) -> None:
    asyncio.get_running_loop().call_soon(wait.app_task.cancel)
    await wait.wait()


async def by_both(wait: Wait) -> None:
    asyncio.get_running_loop().call_soon(wait.app_task.cancel)
    await by_the_server(wait)


async def by_a_scope(wait: Wait) -> None:
    with anyio.move_on_after(0.001):
        await wait.wait()


async def by_a_scope_that_is_slow_to_leave(wait: Wait) -> None:
    with anyio.move_on_after(0.001):
        try:
            await wait.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.001)


async def by_a_timeout(wait: Wait) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await wait.wait()


async def in_a_task_group(wait: Wait) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait.wait)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()


async def in_a_task_of_its_own(wait: Wait) -> None:
    task = asyncio.ensure_future(wait.wait())
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
    cancelled: Callable[[Wait], Awaitable[None]], log: list[str]
) -> None:
    """Only a cancellation by the server, or by code around the app, came from outside."""
    waits: list[Wait] = []

    async def work() -> None:
        waits.append(Wait())
        await cancelled(waits[0])
        await anyio.sleep(0.001)

    await in_task(work)
    await asyncio.sleep(0)

    assert waits[0].log == log


async def test_the_servers_cancellation_is_known_in_the_next_iteration() -> None:
    """One loop iteration is enough, because a server that shuts down may run no more (uvicorn)."""
    log: list[str] = []

    async def work() -> None:
        app_task = running_app_task()
        try:
            await anyio.sleep_forever()
        finally:
            app_task.if_cancelled_outside(lambda: log.append("known"))
            asyncio.get_running_loop().call_soon(log.append, "iteration over")

    await in_task(work, asyncio.Task.cancel)
    await asyncio.sleep(0)

    assert log == ["known", "iteration over"]


# Interruptions, which cancel the task as well.


@pytest.mark.parametrize("interruptions", [1, 2])
async def test_an_interruption_leaves_no_cancellation_behind(interruptions: int) -> None:
    """However often its wait is interrupted, the task is not cancelled afterwards."""

    async def work() -> tuple[bool, int]:
        wait = current_loop().interruptible()
        for _ in range(interruptions):
            asyncio.get_running_loop().call_soon(wait.interrupt)
        with wait:
            await anyio.sleep_forever()
        return wait.interrupted, running_task().cancelling()

    assert (await in_task(work)).result() == (True, 0)


async def test_an_interruption_that_is_swallowed_leaves_no_cancellation_behind() -> None:
    """A server's `receive` may return a message although it was cancelled. The wait is over."""

    async def work() -> tuple[bool, int]:
        wait = current_loop().interruptible()
        asyncio.get_running_loop().call_soon(wait.interrupt)
        with wait, pytest.raises(asyncio.CancelledError):
            await anyio.sleep_forever()
        return wait.interrupted, running_task().cancelling()

    assert (await in_task(work)).result() == (False, 0)


@pytest.mark.parametrize("outside_first", [True, False])
async def test_a_cancellation_beside_an_interruption_goes_on(outside_first: bool) -> None:
    """A cancellation from outside is not undone with the interruption."""

    async def work() -> None:
        wait = current_loop().interruptible()
        both: list[Callable[[], object]] = [running_task().cancel, wait.interrupt]
        for cancel in both if outside_first else reversed(both):
            asyncio.get_running_loop().call_soon(cancel)
        with wait:
            await anyio.sleep_forever()

    assert (await in_task(work)).cancelled()
