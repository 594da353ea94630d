"""What a request may leave behind in its event loop: tasks, and timers that are still set."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import trio


def living_tasks() -> set[object]:
    """Return the tasks of the running loop; on trio its system tasks, which include timers."""
    if trio.lowlevel.in_trio_task():
        return set(_system_tasks())
    return set(asyncio.all_tasks())


async def leftovers_settled() -> None:
    """Let cancelled timers end. On trio they are tasks, which have to run once more to end."""
    if trio.lowlevel.in_trio_task():
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()  # within an iteration trio runs tasks in any order


def pending_timers() -> set[object]:
    """Return the timers of the loop, without those of anyio's scopes, with which tests wait."""
    if trio.lowlevel.in_trio_task():
        return set()  # timers are tasks there
    loop: Any = asyncio.get_running_loop()
    return {
        timer
        for timer in loop._scheduled
        if not timer.cancelled() and not timer._callback.__module__.startswith("anyio")
    }


def _system_tasks() -> Iterator[object]:
    """Yield the tasks in trio's nursery for system tasks."""
    root = trio.lowlevel.current_root_task()
    assert root is not None  # None only while a run begins or ends
    for nursery in root.child_nurseries:
        yield from nursery.child_tasks
