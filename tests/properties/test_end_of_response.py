"""The end of a response is no disconnect, although the server sends `http.disconnect` (F4)."""

from __future__ import annotations

import pytest

from tests.properties.harness import play
from tests.properties.schedule import Schedule, for_any_schedule

pytestmark = pytest.mark.anyio


@for_any_schedule("faults", "timeout", "end", "listens", examples=350)
async def test_the_end_of_a_response_is_no_disconnect(schedule: Schedule) -> None:
    """The token is not cancelled, no `send` is rejected, and the app runs to its end."""
    trace = await play(schedule)
    (report,) = trace.reports
    assert (report.outcome, report.reason) == ("completed", None)
    assert trace.cancellations == []
    assert {call.outcome for call in trace.calls} == {"returned"}
    assert trace.lingered
    assert trace.error is None
