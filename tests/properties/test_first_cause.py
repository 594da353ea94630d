"""The first cause ends a stream. The token, the report and every `send` get that cause, once (F1).

Later causes change nothing. Of several causes at the same time any one may be the first.
"""

from __future__ import annotations

import pytest

from sse_batching import CancelReason, ClientDisconnected
from tests.properties.harness import RESET, play
from tests.properties.schedule import Schedule, for_any_schedule
from tests.properties.trace import NEVER, Trace

pytestmark = pytest.mark.anyio

EPSILON = 1e-6
LAST_WRITE_TIME = 1.0


def causes(schedule: Schedule, trace: Trace) -> list[tuple[float, CancelReason]]:
    """Return everything that would end the stream early, with its time."""
    found: list[tuple[float, CancelReason]] = []
    if trace.left < trace.completed:
        last = trace.call("last")
        # A disconnect during the last write may only mean the end of the response.
        ending = last is not None and last.called < trace.left
        wait = LAST_WRITE_TIME if ending else 0
        found.append((trace.left.time + wait, CancelReason.CLIENT_DISCONNECTED))
    if trace.cancelled is not NEVER:
        found.append((trace.cancelled.time, CancelReason.SERVER_SHUTDOWN))
    for write in trace.writes:
        if write.error is RESET:
            found.append((write.ended.time, CancelReason.SEND_FAILED))
        limit = schedule.send_timeout
        if limit is not None and write.ended.time - write.began.time >= limit - EPSILON:
            found.append((write.began.time + limit, CancelReason.SEND_TIMEOUT))
    return found


@for_any_schedule("refuse", "upload", examples=480)
async def test_the_first_cause_counts(schedule: Schedule) -> None:
    """The report names the earliest cause, or any of several at the same time.

    A cause after the end of the response does not count; one at the very end may.
    """
    trace = await play(schedule)
    (report,) = trace.reports
    end = min(trace.completed.time, trace.ended.time)
    found = causes(schedule, trace)
    first = min((at for at, _ in found), default=end + 1)
    allowed: set[CancelReason | None] = {why for at, why in found if at <= first + EPSILON}
    if first > end + EPSILON:
        allowed = {None}
    elif first >= end - EPSILON:
        allowed.add(None)
    assert report.reason in allowed


@for_any_schedule("upload", examples=280)
async def test_everybody_is_told_the_same_and_once(schedule: Schedule) -> None:
    """There is one report, one call of each callback, and one reason."""
    trace = await play(schedule)
    (report,) = trace.reports
    if trace.tokens_asked:
        assert [why for _, why in trace.cancellations] == [report.reason] * bool(report.reason)
    for call in trace.calls:
        if call.outcome == "rejected":
            assert isinstance(call.error, ClientDisconnected)
            assert call.error.reason == report.reason


@for_any_schedule("upload", examples=210)
async def test_a_report_tells_how_it_ended(schedule: Schedule) -> None:
    """A stream is completed if its last message was delivered, incomplete if cut, else failed."""
    trace = await play(schedule)
    (report,) = trace.reports
    if report.outcome == "completed":
        assert trace.completed is not NEVER
        assert report.reason is None
    elif report.outcome == "incomplete":
        assert report.reason is not None
    else:
        assert report.reason in {None, CancelReason.SEND_FAILED}
        assert trace.completed is NEVER
