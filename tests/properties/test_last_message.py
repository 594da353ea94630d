"""Whatever is pending or in flight: the last message takes the rest with it in one write, the last,
and the app's `send` returns when that has ended, not before and not later (D4)."""

from __future__ import annotations

import pytest

from tests.properties.harness import play
from tests.properties.schedule import Schedule, for_any_schedule

pytestmark = pytest.mark.anyio


@for_any_schedule("faults", "hurry", "end", examples=280)
async def test_the_last_message_takes_the_rest_in_one_write(schedule: Schedule) -> None:
    """From the moment that the app sends it, one write begins, and no other after it."""
    trace = await play(schedule)
    call = trace.call("last")
    assert call is not None
    assert [w.is_last for w in trace.writes if w.began > call.called] == [True]
    assert trace.delivered == b"".join(chunk.body for chunk in trace.chunks)


@for_any_schedule("faults", "hurry", "end", examples=210)
async def test_the_last_send_returns_when_all_was_delivered(schedule: Schedule) -> None:
    """After the last write, and at once."""
    trace = await play(schedule)
    call = trace.call("last")
    assert call is not None
    assert call.outcome == "returned"
    assert call.ended > trace.completed
    assert call.ended.time == trace.completed.time
