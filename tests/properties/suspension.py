"""Cancel a request, or let its client leave, at its first, second, third … suspension point."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final

import anyio
import trio
from anyio.lowlevel import checkpoint

from tests.properties.harness import Play
from tests.properties.schedule import Schedule, Step
from tests.properties.trace import NEVER

LOOP_ITERATIONS: Final = 20
"""Loop iterations that the tasks of a request get to end on trio, which does not say whether a task
has been cancelled."""


class Stepper:
    """Drive a coroutine, and call `strike` when the coroutine suspends for the `at`th time.

    With `woken`, `strike` is called when that wait has ended, before the coroutine is resumed.
    """

    def __init__(self, at: int, strike: Callable[[], object], *, woken: bool = False) -> None:
        self._left = at
        self._strike = strike
        self._woken = woken

    @property
    def reached(self) -> bool:
        """True once the coroutine has suspended `at` times."""
        return self._left <= 0

    @types.coroutine
    def drive(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        step, value = coroutine.send, None
        while True:
            try:
                trap = step(value)
            except StopIteration as stop:
                return stop.value
            self._left -= 1
            if self._left == 0 and not self._woken:
                self._strike()
            try:
                value, step = (yield trap), coroutine.send
                if self._left == 0 and self._woken:
                    self._left = -1
                    self._strike()
                    yield None
            except BaseException as error:  # noqa: BLE001
                value, step = error, coroutine.throw


class Leftovers:
    """Tasks and timers that exist now and did not when this object was made."""

    def __init__(self) -> None:
        self._on_asyncio = not trio_runs()
        self._tasks = self._count_tasks()
        self._timers = {id(timer) for timer in self._timers_now()}

    def _count_tasks(self) -> int:
        if self._on_asyncio:
            return len(asyncio.all_tasks())
        return trio.lowlevel.current_statistics().tasks_living

    def _timers_now(self) -> list[asyncio.TimerHandle]:
        """Return the timers of an asyncio loop, without the timers of anyio's cancel scopes."""
        if not self._on_asyncio:
            return []
        loop: Any = asyncio.get_running_loop()
        return [
            timer
            for timer in loop._scheduled
            if not timer.cancelled() and not timer._callback.__module__.startswith("anyio")
        ]

    def found(self) -> list[str]:
        """Describe each new timer, and the number of new tasks."""
        timers = [str(timer) for timer in self._timers_now() if id(timer) not in self._timers]
        more = self._count_tasks() - self._tasks
        return timers + [f"{more} tasks"] * (more > 0)


def trio_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


class StruckPlay(Play):
    """A play that strikes its request at the `at`th suspension of the request's task.

    `strike` says how: the client leaves (`leave`), the scope around the request is cancelled
    (`scope`), or its task is cancelled (`task`; `woken`: as it is about to resume).
    """

    def __init__(self, schedule: Schedule, strike: str, at: int) -> None:
        super().__init__(schedule)
        self.strike = strike
        self.stepper = Stepper(at, self._hit, woken=strike == "woken")
        self.struck_at = NEVER
        self.left_over: list[str] = []

    def _hit(self) -> None:
        self.struck_at = self.moment()
        if self.strike == "leave":
            self._server.leave()
            return
        self.trace.cancelled = self.struck_at
        if self.strike == "scope":
            self._scope.cancel()
        else:
            assert self._task is not None
            self._task.cancel()

    async def _watched(self, request: Any) -> None:
        before = Leftovers()
        try:
            await super()._watched(self.stepper.drive(request))
        finally:
            if trio_runs():
                with anyio.CancelScope(shield=True):
                    for _ in range(LOOP_ITERATIONS):
                        await checkpoint()
            self.left_over = before.found()


class OwnTaskStruckPlay(Play):
    """A play whose app cancels its own first producer at the producer's `at`th suspension.

    `strike` says how: with a scope inside the app (`scope`), or with `Task.cancel` on a task that
    runs the producer (`task`; `woken`: as the task is about to resume).
    """

    def __init__(self, schedule: Schedule, strike: str, at: int) -> None:
        super().__init__(schedule)
        self._by_scope = strike == "scope"
        self._scope_inside = anyio.CancelScope()
        self._inner: asyncio.Task[Any] | None = None
        self.stepper = Stepper(at, self._hit, woken=strike == "woken")
        self.left_over: list[str] = []

    def _hit(self) -> None:
        if self._by_scope:
            self._scope_inside.cancel()
        else:
            assert self._inner is not None
            self._inner.cancel()

    async def _produce(self, steps: tuple[Step, ...]) -> None:
        if steps is not self.schedule.producers[0]:
            await super()._produce(steps)
        elif self._by_scope:
            with self._scope_inside:
                await self.stepper.drive(super()._produce(steps))
        else:
            self._inner = asyncio.create_task(self._in_task(super()._produce(steps)))
            await asyncio.wait([self._inner])

    async def _in_task(self, work: Coroutine[Any, Any, None]) -> None:
        await self.stepper.drive(work)

    async def _watched(self, request: Any) -> None:
        before = Leftovers()
        try:
            await super()._watched(request)
        finally:
            if trio_runs():
                for _ in range(LOOP_ITERATIONS):
                    await checkpoint()
            self.left_over = before.found()
