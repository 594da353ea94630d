"""Bounds on the buffer and on a batch (D3).

Whenever a `send` returns, less than `max_batch_bytes` of what was accepted is undelivered. No batch
is larger than `max_batch_bytes` plus the one chunk that crossed the bound.
"""

from __future__ import annotations

import pytest

from tests.properties.harness import play
from tests.properties.schedule import Schedule, for_any_schedule
from tests.properties.trace import Trace

pytestmark = pytest.mark.anyio


def undelivered_at_each_return(trace: Trace) -> list[int]:
    """Return how many accepted bytes were undelivered each time that `send` accepted a chunk."""
    events = [(c.ended, len(c.body)) for c in trace.chunks if c.outcome == "returned"]
    events += [(w.ended, -len(w.body)) for w in trace.bodies]
    found, undelivered = [], 0
    for _, change in sorted(events):
        undelivered += change
        if change > 0:
            found.append(undelivered)
    return found


@for_any_schedule("faults", examples=280)
async def test_less_than_the_bound_is_undelivered_when_a_send_returns(schedule: Schedule) -> None:
    """Above the bound `send` waits, however many tasks call it."""
    trace = await play(schedule)
    assert all(size < schedule.max_batch_bytes for size in undelivered_at_each_return(trace))


@for_any_schedule("faults", examples=280)
async def test_no_batch_is_larger_than_the_bound_and_one_chunk(schedule: Schedule) -> None:
    """The bound holds also after a `send` was cancelled that waited for the buffer to drain."""
    trace = await play(schedule)
    largest = max((len(call.body) for call in trace.chunks), default=0)
    for write in trace.bodies:
        of_the_last = schedule.last_size if write.is_last else 0
        assert len(write.body) < schedule.max_batch_bytes + largest + of_the_last
