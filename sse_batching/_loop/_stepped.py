"""Run a coroutine in the name of a parked task, before the task wakes. For CPython 3.11 alone.

Later versions have eager tasks for this (`AsyncioTask.run_eagerly`). To wake the task for every
batch would double what a batch costs: 3.1 µs in place of 1.5 on asyncio, 2.4 in place of 1.4 on
uvloop.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any


def run_first_step(
    task: asyncio.Task[None], context: Context, coroutine: Coroutine[Any, Any, None]
) -> SteppedWork | None:
    """Run the coroutine until it first waits, as if inside `task`. Return the rest, or None if the
    coroutine has ended. Raises what the coroutine raises.

    `context` is the context of `task`. Call this while the task is parked, outside of any task.
    """
    loop = task.get_loop()
    _enter_task(loop, task)
    try:
        return SteppedWork(coroutine, context.run(coroutine.send, None))
    except StopIteration:
        return None
    finally:
        _leave_task(loop, task)


class SteppedWork:
    """The rest of a coroutine behind its first step. See `Suspended`.

    What asyncio's task does between two steps of its coroutine is done here until the task wakes.
    """

    __slots__ = ("_cancelled", "_coroutine", "_is_future", "_yielded")

    def __init__(self, coroutine: Coroutine[Any, Any, None], yielded: Any) -> None:
        self._coroutine = coroutine
        self._yielded = yielded
        self._cancelled = False
        # `Future.__await__` sets this flag, and a task resets it when the future arrives. Until
        # then no other task can await the same future: "await wasn't used with future".
        self._is_future = getattr(yielded, "_asyncio_future_blocking", None) is True
        if self._is_future:
            yielded._asyncio_future_blocking = False

    def cancel(self) -> None:
        # As `Task.cancel` does: the future is cancelled, or else the coroutine where it waits.
        if not (self._is_future and self._yielded.cancel()):
            self._cancelled = True

    def done(self) -> bool:
        return False  # the parked task itself runs the work to the end

    def result(self) -> None:
        raise NotImplementedError

    def __await__(self) -> Generator[Any, Any, None]:
        coroutine, yielded = self._coroutine, self._yielded
        try:
            if self._cancelled:
                yielded = coroutine.throw(asyncio.CancelledError())
            elif self._is_future:
                yielded._asyncio_future_blocking = True  # the task resets it
            while True:
                try:
                    sent = yield yielded
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as error:  # noqa: BLE001
                    yielded = coroutine.throw(error)
                else:
                    yielded = coroutine.send(sent)
        except StopIteration:
            return
