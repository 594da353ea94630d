"""Once a stream is closed, every `send` and `flush` raises `ClientDisconnected` at once (F2).

The exception is chained from the error of the write, if a write failed. One `send` is ignored
instead if the app is waiting in `receive`.
"""

from __future__ import annotations

import pytest

from sse_batching import CancelReason, ClientDisconnected
from tests.properties.harness import REFUSED, RESET, play
from tests.properties.schedule import Schedule, for_any_schedule
from tests.properties.trace import NEVER

pytestmark = pytest.mark.anyio

EPSILON = 1e-6


@for_any_schedule(examples=480)
async def test_every_send_is_refused_from_then_on(schedule: Schedule) -> None:
    """A late call is rejected at once, but for one while the app waits in `receive`, and for an
    empty last message behind a rejected call."""
    trace = await play(schedule)
    closed_at = trace.closed_at
    if closed_at is None:
        return
    later = [call for call in trace.calls if call.called.time > closed_at + EPSILON]
    rejected = [call.called for call in trace.calls if call.outcome == "rejected"]
    ignored = [
        call
        for call in later
        if call.outcome == "returned"
        and not (call.kind == "last" and not call.body and rejected and min(rejected) < call.called)
    ]
    assert len(ignored) <= (1 if schedule.listens else 0)
    for call in later:
        assert call.ended.time == call.called.time
        assert call.outcome in {"returned", "rejected"} or call.error is REFUSED


@for_any_schedule(examples=350)
async def test_who_waits_is_woken(schedule: Schedule) -> None:
    """A call that is waiting when the stream is closed ends at that time."""
    trace = await play(schedule)
    closed_at = trace.closed_at
    if closed_at is not None and trace.cancelled is NEVER:
        for call in trace.calls:
            if call.called.time < closed_at:
                assert call.ended.time <= closed_at + EPSILON


@for_any_schedule("refuse", examples=280)
async def test_a_refusal_is_chained_from_what_the_write_raised(schedule: Schedule) -> None:
    """`ClientDisconnected` has no cause if no write raised."""
    trace = await play(schedule)
    for call in trace.calls:
        assert call.outcome != "raised"
        if isinstance(call.error, ClientDisconnected):
            failed = call.error.reason == CancelReason.SEND_FAILED
            assert call.error.__cause__ is (RESET if failed else None)
