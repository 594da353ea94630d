"""What a request may leave behind in its event loop: tasks, and timers that would still ring."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import trio


def living_tasks() -> set[object]:
    """The tasks of the running loop. On trio they are those that belong to nobody: timers too."""
    if trio.lowlevel.in_trio_task():
        return set(_tasks_of_nobody())
    return set(asyncio.all_tasks())


async def leftovers_settled() -> None:
    """Let the timers end that were cancelled: on trio they are tasks, and run once more for it."""
    if trio.lowlevel.in_trio_task():
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()  # within a turn trio runs tasks in any order


def pending_timers() -> set[object]:
    """Those of the loop, but for the scopes of anyio, which is how the tests wait."""
    if trio.lowlevel.in_trio_task():
        return set()  # they are tasks
    loop: Any = asyncio.get_running_loop()
    return {
        timer
        for timer in loop._scheduled
        if not timer.cancelled() and not timer._callback.__module__.startswith("anyio")
    }


def _tasks_of_nobody() -> Iterator[object]:
    """The children of trio's nursery for system tasks."""
    root = trio.lowlevel.current_root_task()
    assert root is not None  # only a run that begins or ends has none
    for nursery in root.child_nurseries:
        yield from nursery.child_tasks
