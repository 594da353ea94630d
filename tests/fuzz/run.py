"""Run a plan, and return what happened."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final

import anyio
import anyio.lowlevel
import trio

from sse_batching import SSEBatchingMiddleware, StreamReport, current_token, formats
from tests.fuzz.app import AppSide
from tests.fuzz.loops import AsyncioWorld, Job, LoopClosed, Stuck, TrioWorld, make_world
from tests.fuzz.plan import Pending, Plan, Settings
from tests.fuzz.seen import History, Seen
from tests.fuzz.server import ServerSide, Shared, named

Make = Callable[..., Any]
"""Makes the middleware around an app: `SSEBatchingMiddleware`, or a faulty one of a test."""

TOKEN_FORMAT: Final = formats.DeltaFormat(event="token", delta="text", same=("run",), last=("at",))
PATIENCE: Final = 100.0
"""Seconds of virtual time for tasks that outlive their request."""


def run(plan: Plan, make: Make = SSEBatchingMiddleware) -> History:
    """Run a plan in an event loop of its own."""
    world = make_world(plan.loop, plan.seed, shuffled=plan.shuffled)
    with everything_noted(world.problems):
        history = _Run(plan, world, make).history()
        gc.collect()  # finds what is left suspended, and what was raised where nobody looked
    # Of a task that its loop has not finished asyncio says so, with the middleware and without it.
    ignored = "Task was destroyed" if history.closed else "\0"
    history.problems = [problem for problem in world.problems if ignored not in problem]
    return history


@contextmanager
def everything_noted(problems: list[str]) -> Iterator[None]:
    """Add to `problems` what Python and the package's log would only print."""

    def unraisable(hook: Any) -> None:
        code = getattr(hook.object, "cr_code", None)
        if code is not None and "/sse_batching/" not in code.co_filename:
            return  # a coroutine of the app's or the framework's, whose task was cancelled early
        problems.append(f"unraisable: {hook.exc_value!r} in {hook.object!r}"[:200])

    before, sys.unraisablehook = sys.unraisablehook, unraisable
    enabled = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # trio's, for each generator that its owner did not close. `Seen.generator` tells.
            warnings.simplefilter("ignore", ResourceWarning)
            yield
    finally:
        sys.unraisablehook = before
        if enabled:
            gc.enable()


class _Run:
    """One run of a plan."""

    def __init__(self, plan: Plan, world: AsyncioWorld | TrioWorld, make: Make) -> None:
        self.plan = plan
        self.world = world
        self.make = make
        self.seen = [Seen(number, request) for number, request in enumerate(plan.requests)]
        self.shared: Shared | None = None
        self.stuck = ""
        self.left_over: list[str] = []
        self.main_task: object = None

    def history(self) -> History:
        closed = False
        try:
            self.world.run(self._main)
        except (Stuck, LoopClosed) as error:
            closed = isinstance(error, LoopClosed)
            self.stuck = "" if closed else str(error)
        except BaseExceptionGroup as group:  # trio: a task of the fuzz itself has failed
            self.stuck = f"run failed: {group!r}"
        trace = self.shared.trace if self.shared else []
        if closed:
            self._close_loop()
        elif self.stuck:
            del self.world.problems[:]
            self.world.close()
            del self.world.problems[:]
        else:
            self.world.close()
        return History(self.seen, [], self.stuck, self.left_over, trace, closed)

    def _close_loop(self) -> None:
        """Close the event loop, and let go of all that it ran."""
        self.world.problems[:] = []
        assert isinstance(self.world, AsyncioWorld)
        self.world.loop.close()
        for seen in self.seen:
            seen.sending.clear()
            seen.jobs.clear()
            seen.open_at_close = seen.app_began and seen.ended is None
        self.shared = None
        gc.collect()

    async def _main(self) -> None:
        plan, world = self.plan, self.world
        on_asyncio = plan.loop == "asyncio"
        self.main_task = world.current()
        shared = self.shared = Shared(world, on_asyncio=on_asyncio)
        apps: dict[int, AppSide] = {}

        async def dispatch(scope: Any, receive: Any, send: Any) -> None:
            await apps[scope["number"]](scope, receive, send)

        middleware = self.make(dispatch, **options(plan.settings, self._on_close))
        requests: list[Job] = []
        others: list[Job] = []
        for seen in self.seen:
            apps[seen.number] = AppSide(seen.request, seen, shared)
            serving = Serving(seen, ServerSide(seen.request, seen, shared), shared)
            requests.append(world.spawn(partial(serving.serve, middleware)))
        others += [world.spawn(partial(self._gate, pending)) for pending in plan.gate]
        if plan.cancel_all is not None:
            others.append(world.spawn(partial(self._cancel_all, plan.cancel_all)))
        if plan.close is not None and isinstance(world, AsyncioWorld):
            world.loop.closes_at = world.now() + plan.close
        for job in requests:
            await job.ended.wait()
            if job.error is not None and isinstance(job.error, Exception):
                raise Stuck(f"run failed: {job.error!r}") from job.error
        shared.open_gate()
        for job in others:
            job.cancel()
        await self._afterwards()

    async def _afterwards(self) -> None:
        """Wait for what outlives the requests, and look for what is left of the package."""
        await self._turns()
        if not any(seen.request.server.cancelled in ("waits_on", "returns") for seen in self.seen):
            self.left_over = self.world.leftovers()
        with anyio.move_on_after(PATIENCE) as limit:
            for seen in self.seen:
                for job in seen.jobs:
                    await job.ended.wait()
                while any(taken.ended is None for taken in seen.taken):  # noqa: ASYNC110
                    await anyio.sleep(1.0)
            await anyio.sleep(2 * self.plan.settings.grace_period + 1.0)
        if limit.cancelled_caught:
            self.stuck = "a task of the app or a write of the server goes on endlessly"
        for seen in self.seen:  # now, because a garbage collection would close a generator
            seen.generator_left_open = seen.generator == "open"
        self.left_over += [one for one in self.world.leftovers() if one not in self.left_over]

    async def _turns(self) -> None:
        for _ in range(3):
            await anyio.lowlevel.checkpoint()

    async def _gate(self, pending: Pending) -> None:
        assert self.shared is not None
        await anyio.sleep(pending.begins)
        self.shared.close_gate()
        await anyio.sleep(pending.ends - pending.begins)
        self.shared.open_gate()

    async def _cancel_all(self, at: float) -> None:
        await anyio.sleep(at)
        assert self.shared is not None
        self.shared.cancelling_all = True
        self.shared.note(-1, "every task is cancelled")
        me = asyncio.current_task()
        for seen in self.seen:
            if seen.app_began and seen.ended is None:
                seen.cancelled_outside()
            for taken in seen.taken:
                taken.cancelled_by_all = taken.ended is None
        for task in sorted(asyncio.all_tasks(), key=hash):
            if task is not me and task is not self.main_task:
                task.cancel()

    def _on_close(self, report: StreamReport) -> Any:
        for seen in self.seen:
            if seen.stream_id == report.stream_id:
                return self._closed(seen, report)
        self.seen[0].strange.append("report: of a stream that nobody knows")
        return None

    def _closed(self, seen: Seen, report: StreamReport) -> Any:
        seen.reports.append(report)
        assert self.shared is not None
        self.shared.note(seen.number, "report:", report.outcome, report.reason, named(report.error))
        kind = self.plan.settings.on_close
        if kind == "raises":
            raise ValueError("on_close")
        return anyio.sleep(0.1 if kind == "slow" else 0.0) if kind in ("async", "slow") else None


class Serving:
    """Calls the middleware for one request, as a server does in a task of the request's own."""

    def __init__(self, seen: Seen, side: ServerSide, shared: Shared) -> None:
        self.seen = seen
        self.side = side
        self.shared = shared
        self.world = shared.world

    async def serve(self, middleware: Any) -> None:
        seen, request = self.seen, self.seen.request
        await anyio.sleep(request.begins)
        seen.began = self.world.now()
        client = self.world.spawn(self.side.play)
        try:
            await self._in_limit(middleware)
        except Exception:
            if seen.out is None:
                raise  # of the fuzz itself
        finally:
            client.cancel()
            seen.drop_tracebacks()

    async def _in_limit(self, middleware: Any) -> None:
        seen, limit = self.seen, self.seen.request.limit
        if limit is None:
            await self._in_scope(middleware)
        elif not self.shared.on_asyncio:
            with trio.move_on_after(limit) as scope:
                await self._in_scope(middleware, also=scope)
        else:
            try:
                async with asyncio.timeout(limit) as timeout:
                    await self._in_scope(middleware, timeout=timeout)
                seen.timed_out = False
            except TimeoutError:
                seen.timed_out = True

    async def _in_scope(self, middleware: Any, **limits: Any) -> None:
        seen = self.seen
        task = asyncio.current_task() if self.shared.on_asyncio else None
        if task is None or seen.request.scope:
            with anyio.CancelScope() as scope:

                def cancel() -> None:
                    seen.cancelled_outside()
                    scope.cancel()

                self.side.cancel = cancel
                await self._call(middleware, **limits)
            return
        before = task.cancelling()

        def cancel_task() -> None:
            seen.cancelled_outside()
            task.cancel()

        self.side.cancel = cancel_task
        try:
            await self._call(middleware, **limits)
        finally:
            seen.cancelling = task.cancelling() - before

    async def _call(self, middleware: Any, timeout: Any = None, also: Any = None) -> None:
        seen = self.seen
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": seen.request.server.spec_version},
            "method": "POST",
            "path": "/",
            "headers": [],
            "query_string": b"",
            "number": seen.number,
            "enabled": seen.request.enabled,
        }
        before = dict(scope)
        try:
            await middleware(scope, self.side.receive, self.side.send)
        except BaseException as error:
            seen.out = error
            self._ended(timeout, also)
            if not isinstance(error, Exception | BaseExceptionGroup):
                await self._look_for_another_cancellation()
                raise
            if isinstance(error, BaseExceptionGroup) and not isinstance(error, Exception):
                raise
        else:
            self._ended(timeout, also)
        finally:
            if scope != before:
                seen.strange.append(f"scope: changed to {scope}")
            with suppress(LookupError):
                current_token()
                seen.strange.append("context variable: current_token() works behind the middleware")
        await self._look_for_another_cancellation()

    def _ended(self, timeout: Any, also: Any) -> None:
        seen = self.seen
        if timeout is not None and timeout.expired():
            seen.cancelled_outside()
        if also is not None and also.cancel_called:
            seen.cancelled_outside()
        seen.ended, seen.ended_order = self.world.now(), self.shared.tick()
        if seen.token is not None:
            seen.cancelled_at_end = seen.token.cancelled
        self.shared.note(seen.number, "middleware ends:", named(seen.out))

    async def _look_for_another_cancellation(self) -> None:
        """Wait an iteration of the event loop: a cancellation that is still due comes out here."""
        try:
            await anyio.lowlevel.checkpoint()
        except anyio.get_cancelled_exc_class():
            self.seen.late_cancel = True
            raise


def options(settings: Settings, on_close: Callable[[StreamReport], Any]) -> dict[str, Any]:
    """Return the arguments of the middleware."""
    merge: dict[str, Any] = {"auto": "auto", "delta": TOKEN_FORMAT, "plain": formats.PlainText()}
    return {
        "max_delay": settings.max_delay,
        "max_batch_bytes": settings.max_batch_bytes,
        "keepalive_interval": settings.keepalive_interval,
        "send_timeout": settings.send_timeout,
        "grace_period": settings.grace_period,
        "record_bytes": settings.record_bytes,
        "merge": merge.get(settings.merge),
        "flush_on": ("done",) if settings.flush_on else (),
        "enabled": lambda scope: scope["enabled"],
        "on_close": on_close,
    }


def quiet() -> None:
    """Let the package's log print nothing: the runs raise in callbacks on purpose."""
    logging.getLogger("sse_batching").setLevel(logging.CRITICAL + 1)
