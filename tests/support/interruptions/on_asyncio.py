"""Run a case on asyncio, in an event loop that counts its steps."""

from __future__ import annotations

import asyncio
import heapq
import selectors
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

from sse_batching import CancellationToken

from .case import Asking, Case
from .record import Record
from .running import AFTERWARDS, LEAVES, Request, warnings_in_the_log


class DeadlockError(Exception):
    """No task can go on, and no timer is set."""


class SteppingLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, which calls `before_step` before each step."""

    def __init__(self, *, eager: bool) -> None:
        super().__init__(selectors.SelectSelector())  # it is never asked: nothing here uses sockets
        self.now = 1000.0
        self.step = 0
        self.before_step: Callable[[], None] = lambda: None
        if eager:
            factory: Any = vars(asyncio)["eager_task_factory"]  # Python 3.12
            self.set_task_factory(factory)

    def time(self) -> float:
        return self.now

    def _write_to_self(self) -> None:
        pass  # it would wake the selector

    def _run_once(self) -> None:
        """Run one iteration, as the method of `BaseEventLoop` does."""
        this: Any = self
        ready, scheduled = this._ready, this._scheduled
        self._drop_cancelled()
        if not ready and not this._stopping:
            self._begin_step()  # idle
            self._drop_cancelled()
            if not ready:
                if not scheduled:
                    raise DeadlockError
                self.now = max(self.now, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self.now:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            if timer._cancelled:
                this._timer_cancelled_count -= 1
            ready.append(timer)
        for _ in range(len(ready)):
            self._begin_step()
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _begin_step(self) -> None:
        self.step += 1
        self.before_step()

    def _drop_cancelled(self) -> None:
        this: Any = self
        while this._scheduled and this._scheduled[0]._cancelled:
            this._timer_cancelled_count -= 1
            heapq.heappop(this._scheduled)._scheduled = False

    def timers(self) -> Iterator[asyncio.TimerHandle]:
        """Yield the timers that are set."""
        this: Any = self
        return (timer for timer in this._scheduled if not timer._cancelled)


class Backend:
    """See `AppBackend`."""

    def __init__(self, loop: SteppingLoop) -> None:
        self._loop = loop
        self.own_tasks: set[asyncio.Task[Any]] = set()
        """Tasks of the app and of the server."""

    @property
    def step(self) -> int:
        return self._loop.step

    def iteration(self) -> Awaitable[object]:
        return asyncio.sleep(0)

    async def sleep_uncancelled(self, seconds: float, ignored: Callable[[], None]) -> None:
        done = self._loop.create_future()
        self._loop.call_later(seconds, done.set_result, None)
        while not done.done():
            try:
                await asyncio.shield(done)
            except asyncio.CancelledError:
                ignored()

    def group(self) -> AbstractAsyncContextManager[asyncio.TaskGroup]:
        return asyncio.TaskGroup()

    def start_in(self, group: asyncio.TaskGroup, work: Callable[[], Any]) -> None:
        self.own_tasks.add(group.create_task(work()))

    def detach(self, work: Callable[[], Any]) -> None:
        self.own_tasks.add(self._loop.create_task(work()))

    @asynccontextmanager
    async def limit(self, seconds: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            pass

    @contextmanager
    def registered(self, asking: Asking, token: CancellationToken) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        if asking == "task":
            token.register(task.cancel)
        elif asking == "soon":
            call_soon: Any = self._loop.call_soon_threadsafe
            token.register(call_soon, task.cancel)
        yield


class Runner:
    """Runs cases in one event loop, which is made anew after a deadlock.

    `eager`: with eager tasks. `bare`: without the middleware.
    """

    def __init__(self, *, eager: bool = False, bare: bool = False) -> None:
        self._bare = bare
        self._eager = eager and sys.version_info >= (3, 12)
        self._loop = SteppingLoop(eager=self._eager)

    def close(self) -> None:
        self._loop.close()

    def run(self, case: Case) -> tuple[Record, int]:
        """Return what happened, and the number of steps until the middleware had returned."""
        running = _Running(case, self._loop, bare=self._bare)
        with warnings_in_the_log(running.record.complaints):
            try:
                self._loop.run_until_complete(running.run())
            except DeadlockError:
                running.record.hangs = "deadlock"
                self._loop.before_step = lambda: None
                self._loop.set_exception_handler(lambda loop, context: None)
                self._loop = SteppingLoop(eager=self._eager)
        return running.record, running.record.returned or self._loop.step


class _Running:
    def __init__(self, case: Case, loop: SteppingLoop, *, bare: bool) -> None:
        self._loop = loop
        self._backend = Backend(loop)
        self._request = Request(case, self._backend, bare=bare)
        self._limit: asyncio.Timeout | None = None
        self.record = self._request.record

    async def run(self) -> None:
        loop, request = self._loop, self._request
        loop.set_exception_handler(
            lambda loop, context: self.record.complaints.append(f"loop: {context['message']}")
        )
        self._others = asyncio.all_tasks()
        self._timers = set(loop.timers())
        # The step of an eager task's creation is step 1.
        loop.step = 0
        loop.before_step = self._before_step
        task = loop.create_task(self._serve())
        self._backend.own_tasks.add(task)
        request.cancel = task.cancel
        leaves = loop.call_later(LEAVES, lambda: request.happen("leave", loop.step))
        self._timers.add(leaves)
        await asyncio.wait([task])
        leaves.cancel()
        loop.before_step = lambda: None
        self.record.left_later = self._left()
        left = asyncio.all_tasks() - self._others - {asyncio.current_task()}
        for other in left:
            other.cancel()
        if left:
            await asyncio.wait(left, timeout=AFTERWARDS)

    def _before_step(self) -> None:
        step, record = self._loop.step, self.record
        if self._limit is not None and record.returned is None and self._limit.expired():
            self._limit = None
            record.happened.append(("timeout", step))
        self._request.at_step(step)

    async def _serve(self) -> None:
        record, request = self.record, self._request
        task = asyncio.current_task()
        assert task is not None
        try:
            async with asyncio.timeout(None) as limit:
                self._limit = limit
                request.expire = self._expire
                try:
                    await request.run()
                except BaseException as error:
                    record.error = error
                    raise
                finally:
                    if limit.expired() and self._limit is not None:
                        record.happened.append(("timeout", self._loop.step))
                    record.returned = self._loop.step
                    record.left = self._left()
        except BaseException as error:  # noqa: BLE001 - the server's code goes on
            record.outcome = error
        record.cancelling = task.cancelling()
        try:
            await asyncio.sleep(AFTERWARDS)
        except asyncio.CancelledError:
            record.cancelled_later = True

    def _expire(self) -> None:
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(self._loop.time())

    def _left(self) -> list[str]:
        tasks = asyncio.all_tasks() - self._others - self._backend.own_tasks
        timers = set(self._loop.timers()) - self._timers
        names = [str(getattr(task.get_coro(), "__qualname__", task)) for task in tasks]
        for timer in timers:
            callback = timer._callback  # type: ignore[attr-defined]
            if str(getattr(callback, "__module__", "")).startswith(("sse_batching", "anyio")):
                names.append(f"timer of {callback.__qualname__}")
        return names
