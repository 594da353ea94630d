"""Counts what one side of the demo writes, and the CPU time that it takes.

``Metered`` is an ASGI wrapper outside everything else, so it sees what reaches the server: on the
plain side as the app sent it, on the others after the batching and the merging.

The sides share one process and one event loop, so the CPU time of the process says nothing about
one of them. What is measured instead is each step of each task that a request runs in: that of the
request itself, and those that the app and the middleware start, which inherit its context. That
covers the framework, the middleware and the server's ``send``. The wake-ups by the agent's thread
and timers are not in it; they are the smaller part, and much the same on every side.

Three equal sides come out up to a third apart, and the very first run costs the first side most: it
pays for what a process does only once. So a smaller difference means nothing, and of one run alone
not even a larger one does. docs/performance.md has what was measured with more care.
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
    """Records the requests to ``app`` in ``runs``, under ``side`` and their ``?run=`` id."""

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
    """Awaits ``awaitable``, adding the CPU time of each of its steps to ``run``.

    While it is suspended the thread works for others: that time is theirs.
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
            except BaseException as error:  # noqa: BLE001 (the awaitable gets it)
                step, argument = steps.throw, error


def time_tasks_of_runs(loop: asyncio.AbstractEventLoop) -> None:
    """From now on count the CPU time of every task that is started on behalf of a run."""

    def make_task(
        loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Task[Any]:
        run = current_run.get(None)
        if run is None:
            return asyncio.Task(coroutine, loop=loop, **options)
        task = asyncio.Task(_await(_Timed(coroutine, run)), loop=loop, **options)
        # A task that is cancelled before its first step never comes to awaiting the coroutine.
        task.add_done_callback(lambda _: coroutine.close())
        return task

    loop.set_task_factory(make_task)


async def _await(timed: _Timed) -> Any:
    return await timed
