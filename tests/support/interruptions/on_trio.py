"""Run a case on trio, with an instrument that counts the steps of its tasks."""

from __future__ import annotations

import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Final

import trio
import trio.testing

from sse_batching import CancellationToken

from .case import Asking, Case
from .record import Record
from .running import AFTERWARDS, LEAVES, Request, warnings_in_the_log

_run: Any = sys.modules["trio._core._run"]
"""trio has no public way to run tasks in a fixed order, nor a cheap one to see that none runs."""


PATIENCE: Final = 10_000.0
"""Virtual seconds after which a case hangs. With no deadline, trio would wait in real time."""


class Backend:
    """See `AppBackend`."""

    def __init__(self) -> None:
        self.step = 0
        self.swallowed: Callable[[], None] = lambda: None
        """Called when a scope of the app's own has caught a cancellation."""

    def iteration(self) -> Awaitable[object]:
        return trio.lowlevel.checkpoint()  # noqa: ASYNC105 - the caller awaits it

    async def sleep_uncancelled(self, seconds: float, ignored: Callable[[], None]) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)

    def group(self) -> AbstractAsyncContextManager[trio.Nursery]:
        return trio.open_nursery()

    def start_in(self, group: trio.Nursery, work: Callable[[], Any]) -> None:
        group.start_soon(work)

    def detach(self, work: Callable[[], Any]) -> None:
        trio.lowlevel.spawn_system_task(work)

    @asynccontextmanager
    async def limit(self, seconds: float) -> AsyncIterator[None]:
        with trio.move_on_after(seconds):
            yield

    @contextmanager
    def registered(self, asking: Asking, token: CancellationToken) -> Iterator[None]:
        with trio.CancelScope() as scope:
            if asking == "task":
                token.register(scope.cancel)
            elif asking == "soon":
                run_soon: Any = trio.lowlevel.current_trio_token().run_sync_soon
                token.register(run_soon, scope.cancel)
            yield
        if scope.cancelled_caught:
            self.swallowed()


class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks, and the moments in which all of them wait."""

    def __init__(self, backend: Backend, before_step: Callable[[int], None]) -> None:
        self._backend = backend
        self._before_step = before_step

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._begin()

    def before_io_wait(self, timeout: float) -> None:
        # `trio.lowlevel.current_statistics` tells the same, for a third of the time of a case.
        if not _run.GLOBAL_RUN_CONTEXT.runner.runq:
            self._begin()

    def _begin(self) -> None:
        self._backend.step += 1
        self._before_step(self._backend.step)


@contextmanager
def in_a_fixed_order() -> Iterator[None]:
    """Let trio run tasks in the same order each time."""
    before = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r
    _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r = True, random.Random(0)
    try:
        yield
    finally:
        _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r = before


class Runner:
    """Runs each case in a run of trio. `bare`: without the middleware."""

    def __init__(self, *, bare: bool = False) -> None:
        self._bare = bare

    def close(self) -> None:
        pass

    def run(self, case: Case) -> tuple[Record, int]:
        """Return what happened, and the number of steps until the middleware had returned."""
        running = _Running(case, bare=self._bare)
        clock = trio.testing.MockClock(autojump_threshold=0)
        with in_a_fixed_order(), warnings_in_the_log(running.record.complaints):
            try:
                trio.run(running.run, clock=clock)
            except trio.TrioInternalError as error:
                running.record.hangs = repr(error.__cause__)
        return running.record, running.record.returned or running.backend.step


class _Running:
    def __init__(self, case: Case, *, bare: bool) -> None:
        self.backend = Backend()
        self._request = Request(case, self.backend, bare=bare)
        self.record = self._request.record
        self.backend.swallowed = lambda: self.record.swallowed.append(self.backend.step)

    async def run(self) -> None:
        self._before = set(_system_tasks())
        with trio.move_on_after(PATIENCE) as patience:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._leave_in_time)
                await self._serve()
                nursery.cancel_scope.cancel()
        if patience.cancelled_caught:
            self.record.hangs = "deadlock"
        self.record.left_later = self._left()

    async def _leave_in_time(self) -> None:
        await trio.sleep(LEAVES)
        self._request.happen("leave", self.backend.step)

    async def _serve(self) -> None:
        record, request = self.record, self._request
        server, limit = trio.CancelScope(), trio.CancelScope()
        request.cancel = server.cancel
        request.expire = lambda: self._expire(limit)
        instrument = Steps(self.backend, self._request.at_step)
        trio.lowlevel.add_instrument(instrument)
        try:
            with server, limit:
                try:
                    await request.run()
                except BaseException as error:
                    record.error = error
                    raise
                finally:
                    record.returned = self.backend.step
        except BaseException as error:  # noqa: BLE001 - the server's code goes on
            record.outcome = error
        trio.lowlevel.remove_instrument(instrument)
        record.scopes = server.cancelled_caught, limit.cancelled_caught
        try:
            for _ in range(3):  # timers are tasks, which have to run once more to end
                await trio.lowlevel.checkpoint()
            record.left = self._left()
            await trio.sleep(AFTERWARDS)
        except trio.Cancelled:
            record.cancelled_later = True
            raise

    def _expire(self, limit: trio.CancelScope) -> None:
        self.record.happened.append(("timeout", self.backend.step))
        limit.cancel()

    def _left(self) -> list[str]:
        return [task.name for task in set(_system_tasks()) - self._before]


def _system_tasks() -> Iterator[trio.lowlevel.Task]:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    for nursery in root.child_nurseries:
        yield from nursery.child_tasks
