"""Whatever went before: an exception of the app's leaves the middleware as the same object, after
what the app had sent was delivered (D5)."""

from __future__ import annotations

import pytest

from tests.properties.harness import play
from tests.properties.schedule import Schedule, for_any_schedule
from tests.properties.trace import NEVER

pytestmark = pytest.mark.anyio


@for_any_schedule(examples=280)
async def test_the_same_exception_goes_on(schedule: Schedule) -> None:
    """Also when the client left, a write failed, or the server refused something before it."""
    trace = await play(schedule)
    if trace.raised is not None and trace.app_error is trace.raised and trace.cancelled is NEVER:
        assert trace.error is trace.raised


@for_any_schedule("faults", "hurry", examples=210)
async def test_what_was_sent_is_delivered_first(schedule: Schedule) -> None:
    """The exception goes on when the last write has ended."""
    trace = await play(schedule)
    assert trace.delivered == b"".join(chunk.body for chunk in trace.chunks)
    assert all(write.ended < trace.over for write in trace.writes)
