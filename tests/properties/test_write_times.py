"""When batches are written (D2).

The first chunk, and any chunk after `max_delay` without one, begins a burst and is written at once.
Any other batch is written when its first chunk has waited for `max_delay`, or for as long as the
burst was old when that chunk came, whichever is shorter. Chunks that come during a write are
written when that write ends. No batch is written earlier without a reason.
"""

from __future__ import annotations

import pytest

from tests.properties.due_times import DueTimes
from tests.properties.harness import play
from tests.properties.schedule import Schedule, for_any_schedule

pytestmark = pytest.mark.anyio

EPSILON = 1e-6


@for_any_schedule("faults", "timeout", examples=480)
async def test_each_batch_goes_in_time(schedule: Schedule) -> None:
    """A batch is written when it is due, or at the end of a write during which it was gathered."""
    trace = await play(schedule)
    times = DueTimes(schedule, trace)
    for batch in times.batches:
        due = batch.before.ended.time if batch.gathered else times.due(batch)
        assert batch.write.began.time <= max(due, batch.before.ended.time) + EPSILON


@for_any_schedule("faults", "timeout", "producers", "keepalive", examples=350)
async def test_no_batch_goes_without_a_reason(schedule: Schedule) -> None:
    """A batch is not written before it is due, unless it was gathered during a write that ended.

    A timer that was set for something else must not flush it early.
    """
    trace = await play(schedule)
    times = DueTimes(schedule, trace)
    for batch in times.batches:
        assert batch.gathered or batch.write.began.time >= times.due(batch) - EPSILON
