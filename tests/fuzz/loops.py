"""The event loops of the fuzz: virtual time, and what is ready may run in random order."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol

import anyio
import trio
import trio.testing

BUSY: Final = 1000
"""Iterations of the event loop after which time goes on, though there is always something ready:
anyio cancels a task again in each iteration, until the task has ended."""

MAX_TURNS: Final = 50_000
"""Iterations of the event loop after which a run counts as endless."""

PACKAGE: Final = "sse_batching"


class Stuck(RuntimeError):
    """No task can ever go on, or tasks go on endlessly."""


class LoopClosed(RuntimeError):
    """The plan closes the event loop now."""


class Job:
    """A task of the fuzz. Its exception is kept, and nobody else sees it."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.ended = anyio.Event()
        self.cancel: Callable[[], object] = lambda: None

    @property
    def done(self) -> bool:
        return self.ended.is_set()


class World(Protocol):
    """The event loop of a run."""

    turns: int
    problems: list[str]

    def now(self) -> float:
        """Return the virtual time."""

    def spawn(self, function: Callable[[], Awaitable[object]]) -> Job:
        """Run the function in a task of its own."""

    def current(self) -> object:
        """Return the running task; None if no task runs."""

    def leftovers(self) -> list[str]:
        """Return the tasks and timers that are left of the package."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An asyncio loop without sockets, whose time jumps to the next timer when nothing is ready."""

    _ready: Any
    _scheduled: Any
    _stopping: bool
    _timer_cancelled_count: int

    def __init__(self, rng: random.Random | None) -> None:
        super().__init__()
        self.now = 1000.0
        self.turns = 0
        self.closes_at: float | None = None
        self._rng = rng
        self._at_one_time = 0  # iterations since the time has jumped

    def time(self) -> float:
        return self.now

    def _write_to_self(self) -> None:
        """Do nothing: this loop never sleeps."""

    def _process_events(self, event_list: object) -> None:
        """Do nothing: there are no sockets."""

    def _run_once(self) -> None:
        self.turns += 1
        ready, scheduled = self._ready, self._scheduled
        self._forget_cancelled()
        if self.turns > MAX_TURNS:
            raise Stuck("tasks go on endlessly")
        self._at_one_time += 1
        if (not ready or self._at_one_time > BUSY) and not self._stopping:
            if scheduled:
                self._at_one_time = 0
                self.now = max(self.now, scheduled[0]._when)
            elif not ready:
                raise Stuck("no task can go on")
        if self.closes_at is not None and self.now >= self.closes_at:
            raise LoopClosed
        while scheduled and scheduled[0]._when <= self.now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if handle._cancelled:
                self._timer_cancelled_count -= 1
            ready.append(handle)
        batch = [ready.popleft() for _ in range(len(ready))]
        if self._rng is not None:
            self._rng.shuffle(batch)
        for handle in batch:
            if not handle._cancelled:
                handle._run()

    def _forget_cancelled(self) -> None:
        scheduled = self._scheduled
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False

    def timers(self) -> list[asyncio.TimerHandle]:
        return [handle for handle in self._scheduled if not handle._cancelled]


class NumberedTask(asyncio.Task[Any]):
    """A task with the same hash in each run of a seed: anyio and asyncio keep tasks in sets."""

    count = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        NumberedTask.count += 1
        self.number = NumberedTask.count
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self.number

    __eq__ = object.__eq__


class AsyncioWorld:
    """See `World`."""

    def __init__(self, seed: int, *, shuffled: bool) -> None:
        self.problems: list[str] = []
        self.loop = VirtualLoop(random.Random(seed) if shuffled else None)
        self.loop.set_task_factory(self._make_task)
        self.loop.set_exception_handler(self._report)
        NumberedTask.count = 0

    @property
    def turns(self) -> int:
        return self.loop.turns

    @turns.setter
    def turns(self, value: int) -> None:
        self.loop.turns = value

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **kwargs: Any
    ) -> asyncio.Task[Any]:
        return NumberedTask(coroutine, loop=loop, **kwargs)

    def _report(self, loop: object, context: dict[str, Any]) -> None:
        self.problems.append(f"{context['message']}: {context.get('exception')!r}")

    def now(self) -> float:
        return self.loop.now

    def current(self) -> object:
        return asyncio.current_task(self.loop)

    def spawn(self, function: Callable[[], Awaitable[object]]) -> Job:
        job = Job()
        task = self.loop.create_task(_keep(job, function))
        job.cancel = task.cancel

        def ended(task: asyncio.Task[Any]) -> None:
            if task.cancelled() and job.error is None:  # before its first step
                job.error = asyncio.CancelledError()
            job.ended.set()

        task.add_done_callback(ended)
        return job

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio._set_running_loop(None)
        self.loop.run_until_complete(main())

    def leftovers(self) -> list[str]:
        tasks = [
            f"task {name}"
            for task in asyncio.all_tasks(self.loop)
            if (name := _of_package(task.get_coro()))
        ]
        return tasks + [
            f"timer {name}"
            for handle in self.loop.timers()
            if (name := _of_package(handle._callback))  # type: ignore[attr-defined]
        ]

    def close(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.close()


async def _keep(job: Job, function: Callable[[], Awaitable[object]]) -> None:
    try:
        await function()
    except BaseException as error:
        job.error = error
        if not isinstance(error, Exception):
            raise


def _of_package(thing: Any) -> str:
    """Return the name of a coroutine or callback, if it belongs to the package; otherwise ''."""
    for attribute in ("func", "__wrapped__"):
        thing = getattr(thing, attribute, thing)
    code = getattr(thing, "cr_code", None) or getattr(thing, "__code__", None)
    if code is None:
        code = getattr(getattr(thing, "__func__", None), "__code__", None)
    owner = type(getattr(thing, "__self__", None)).__module__
    if owner.startswith((f"{PACKAGE}.", "anyio.")):
        return f"{owner}.{getattr(thing, '__qualname__', '')}"
    if code is not None and (f"/{PACKAGE}/" in code.co_filename or "/anyio/" in code.co_filename):
        return str(getattr(thing, "__qualname__", thing))
    return ""


class TrioWorld(trio.abc.Instrument):
    """See `World`. Counts the steps of tasks as iterations."""

    nursery: trio.Nursery

    def __init__(self, seed: int, *, shuffled: bool) -> None:
        self.problems: list[str] = []
        self.turns = 0
        self._clock = trio.testing.MockClock(autojump_threshold=0)
        self._seed = seed
        self._shuffled = shuffled

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.turns += 1
        if self.turns == MAX_TURNS:
            self.nursery.cancel_scope.cancel()

    def now(self) -> float:
        return self._clock.current_time()  # in any thread

    def current(self) -> object:
        return trio.lowlevel.current_task()

    def spawn(self, function: Callable[[], Awaitable[object]]) -> Job:
        job = Job()
        scope = trio.CancelScope()
        job.cancel = scope.cancel

        async def run() -> None:
            try:
                with scope:
                    await _keep(job, function)
            finally:
                job.ended.set()

        context = contextvars.copy_context()
        context.run(self.nursery.start_soon, run)
        return job

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        core: Any = trio._core._run
        before = core._ALLOW_DETERMINISTIC_SCHEDULING
        core._ALLOW_DETERMINISTIC_SCHEDULING = True
        core._r.seed(self._seed if self._shuffled else 0)
        try:
            trio.run(self._main, main, clock=self._clock, instruments=[self])
        finally:
            core._ALLOW_DETERMINISTIC_SCHEDULING = before

    async def _main(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with trio.move_on_after(100_000) as limit:
            async with trio.open_nursery() as self.nursery:
                await main()
                self.nursery.cancel_scope.cancel()
        if self.turns >= MAX_TURNS:
            raise Stuck("tasks go on endlessly")
        if limit.cancelled_caught:
            raise Stuck("no task can go on")

    def leftovers(self) -> list[str]:
        root = trio.lowlevel.current_root_task()
        assert root is not None
        found = []
        for nursery in root.child_nurseries:
            for task in nursery.child_tasks:
                if f"/{PACKAGE}/" in getattr(
                    getattr(task.coro, "cr_code", None), "co_filename", ""
                ):
                    inner = task.coro.cr_frame and task.coro.cr_frame.f_locals.get("function")
                    found.append(f"task {getattr(inner, '__qualname__', task.name)}")
        return sorted(found)

    def close(self) -> None:
        """Do nothing: `run` has closed the loop."""


def make_world(loop: str, seed: int, *, shuffled: bool) -> AsyncioWorld | TrioWorld:
    """Return a new event loop."""
    return (AsyncioWorld if loop == "asyncio" else TrioWorld)(seed, shuffled=shuffled)
