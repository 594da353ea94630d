"""The last message takes all pending bytes with it in one last write (D4).

The app's `send` returns at the moment when that write has ended.
"""

from __future__ import annotations

import pytest

from tests.properties.due_times import DueTimes
from tests.properties.harness import play
from tests.properties.schedule import Schedule, for_any_schedule

pytestmark = pytest.mark.anyio


@for_any_schedule("faults", "timeout", "end", examples=280)
async def test_the_last_message_takes_the_rest_in_one_write(schedule: Schedule) -> None:
    """Once the app has sent the last message, exactly one more write begins.

    A batch whose deadline is that very moment may have been taken just before, though its write
    begins just after: on trio the timer only wakes the task that writes.
    """
    trace = await play(schedule)
    call = trace.call("last")
    assert call is not None
    taken = [
        batch.write
        for batch in DueTimes(schedule, trace).batches
        if batch.arrivals[0] < batch.deadline == call.called.time and not batch.write.is_last
    ]
    later = [write for write in trace.writes if write.began > call.called and write not in taken]
    assert [write.is_last for write in later] == [True]
    assert trace.delivered == b"".join(chunk.body for chunk in trace.chunks)


@for_any_schedule("faults", "timeout", "end", examples=210)
async def test_the_last_send_returns_when_all_was_delivered(schedule: Schedule) -> None:
    """The `send` of the last message returns when the last write has ended, without delay."""
    trace = await play(schedule)
    call = trace.call("last")
    assert call is not None
    assert call.outcome == "returned"
    assert call.ended > trace.completed
    assert call.ended.time == trace.completed.time
