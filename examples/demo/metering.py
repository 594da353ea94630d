"""Counters for the writes of each side of the demo, and for the CPU time that the side takes.

`Metered` is the outermost ASGI middleware, so it sees what reaches the server: the app's messages
on the plain side, and the result of batching and merging on the others.

All sides share one process and one event loop, so the CPU time of the process says nothing about
one side. `Metered` measures each step of each task that works for a request. These are the task of
the request itself, and the tasks that the app and the middleware start, which inherit the context
of the request. The figure includes the framework, the middleware and the server's `send`. It does
not include timers and the wake-ups by the agent's thread, which take less, and about the same on
each side.

Three identical sides differ by up to a third. In the first run the first side takes most, because
it does what a process does only once. So a smaller difference means nothing, and in a single run
even a larger one does not. docs/performance.md has more careful measurements.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Generator
from contextvars import ContextVar
from typing import Any

from starlette.datastructures import QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.demo.runs import Run, Runs

current_run: ContextVar[Run] = ContextVar("current_run")


class Metered:
    """ASGI middleware that records each request in `runs`, under its `?run=` id and `side`."""

    def __init__(self, app: ASGIApp, runs: Runs, side: str) -> None:
        self._app = app
        self._runs = runs
        self._side = side

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        run_id = QueryParams(scope["query_string"]).get("run", "unnamed")
        run = self._runs.open(run_id, self._side)

        async def counted_send(message: Message) -> None:
            run.sending(message)
            await send(message)

        async def counted_receive() -> Message:
            message = await receive()
            run.received(message)
            return message

        current_run.set(run)
        await _Timed(self._app(scope, counted_receive, counted_send), run)


class _Timed:
    """Await `awaitable`, and add the CPU time of each of its steps to `run`.

    While the awaitable is suspended, the thread works for other tasks. That time is not added.
    """

    def __init__(self, awaitable: Awaitable[Any], run: Run) -> None:
        self._awaitable = awaitable
        self._run = run

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._awaitable.__await__()
        step, argument = steps.send, None
        while True:
            started = time.thread_time()
            try:
                suspended_on = step(argument)
            except StopIteration as finished:
                return finished.value
            finally:
                self._run.cpu_seconds += time.thread_time() - started
            try:
                step, argument = steps.send, (yield suspended_on)
            except BaseException as error:  # noqa: BLE001 (raised in the awaitable)
                step, argument = steps.throw, error


def time_tasks_of_runs(loop: asyncio.AbstractEventLoop) -> None:
    """Measure the CPU time of each task that is started for a run from now on."""

    def make_task(
        loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Task[Any]:
        run = current_run.get(None)
        if run is None:
            return asyncio.Task(coroutine, loop=loop, **options)
        task = asyncio.Task(_await(_Timed(coroutine, run)), loop=loop, **options)
        # A task that is cancelled before its first step never awaits the coroutine.
        task.add_done_callback(lambda _: coroutine.close())
        return task

    loop.set_task_factory(make_task)


async def _await(timed: _Timed) -> Any:
    return await timed
