"""The app receives every message of the server once and in order (F3).

After `http.disconnect`, every call returns `http.disconnect`. Only one task at a time calls the
server's `receive`, and reads only a bounded number of bytes ahead of the app.
"""

from __future__ import annotations

import pytest

from tests.properties.harness import play
from tests.properties.schedule import Schedule, for_any_schedule

pytestmark = pytest.mark.anyio

GONE = {"type": "http.disconnect"}
READ_AHEAD = 65_536
LARGEST = 70_000


@for_any_schedule(examples=350)
async def test_the_app_receives_what_the_server_said(schedule: Schedule) -> None:
    """The app receives the parts in order, each once, and all of them before the disconnect."""
    trace = await play(schedule)
    parts = [message for message in trace.uploaded if message != GONE]
    seen = [message for message in trace.received if message != GONE]
    assert seen == parts[: len(seen)]
    if GONE in trace.received:
        assert seen == parts
        assert trace.received[len(seen) :] == [GONE] * (len(trace.received) - len(seen))


@for_any_schedule(examples=210)
async def test_one_task_reads_at_a_time(schedule: Schedule) -> None:
    """The server's `receive` is never called while another call of it is under way."""
    trace = await play(schedule)
    assert trace.readers <= 1


@for_any_schedule(examples=210)
async def test_no_more_is_read_ahead_than_the_bound(schedule: Schedule) -> None:
    """At most 64 KB are read ahead, plus the one part that crossed that bound."""
    trace = await play(schedule)
    assert trace.unread < READ_AHEAD + LARGEST
