"""The last message takes all pending bytes with it in one last write (D4).

The app's `send` returns at the moment when that write has ended.
"""

from __future__ import annotations

import pytest

from tests.properties.harness import play
from tests.properties.schedule import Schedule, for_any_schedule

pytestmark = pytest.mark.anyio


@for_any_schedule("faults", "timeout", "end", examples=280)
async def test_the_last_message_takes_the_rest_in_one_write(schedule: Schedule) -> None:
    """Once the app has sent the last message, exactly one more write begins."""
    trace = await play(schedule)
    call = trace.call("last")
    assert call is not None
    assert [w.is_last for w in trace.writes if w.began > call.called] == [True]
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
