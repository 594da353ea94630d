"""The middleware delivers what the app sent and then raises the app's own exception object (D5)."""

from __future__ import annotations

import pytest

from tests.properties.harness import play
from tests.properties.schedule import Schedule, for_any_schedule
from tests.properties.trace import NEVER

pytestmark = pytest.mark.anyio


@for_any_schedule(examples=280)
async def test_the_same_exception_goes_on(schedule: Schedule) -> None:
    """The middleware raises the exception object of the app.

    It does so also after a disconnect, a failed write, or a message that the server refused.
    """
    trace = await play(schedule)
    if trace.raised is not None and trace.app_error is trace.raised and trace.cancelled is NEVER:
        assert trace.error is trace.raised


@for_any_schedule("faults", "timeout", examples=210)
async def test_what_was_sent_is_delivered_first(schedule: Schedule) -> None:
    """The middleware raises the exception after the last write has ended."""
    trace = await play(schedule)
    assert trace.delivered == b"".join(chunk.body for chunk in trace.chunks)
    assert all(write.ended < trace.ended for write in trace.writes)
