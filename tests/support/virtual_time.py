"""Virtual time: a clock that jumps to the next timer as soon as no task has anything to do.

Hours pass in milliseconds, and each run of a test sees the same times. Trio has such a clock
itself, `MockClock`.
"""

from __future__ import annotations

import asyncio

import anyio
import trio.testing

from sse_batching.testing import ManualClockLoop


def virtual_time_loop() -> ManualClockLoop:
    """Return an asyncio event loop on virtual time."""
    return ManualClockLoop(autojump_threshold=0)


def spend(seconds: float) -> None:
    """Let virtual time pass as work does that never awaits: no other task or timer runs."""
    clock: object = (
        trio.lowlevel.current_clock()
        if trio.lowlevel.in_trio_task()
        else asyncio.get_running_loop()
    )
    assert isinstance(clock, ManualClockLoop | trio.testing.MockClock)
    clock.jump(seconds)


async def advance(seconds: float) -> None:
    """Let virtual time pass, while everything that is due until then happens, in order.

    Unlike `sse_batching.testing.advance`, several tasks may do so at the same time.
    """
    await anyio.sleep(seconds)
