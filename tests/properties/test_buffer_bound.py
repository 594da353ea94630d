"""Whatever the sizes, the pace and the tasks: of what `send` has accepted less than
`max_batch_bytes` is undelivered whenever one returns, and no batch is larger than that and the one
chunk that crossed it (D3)."""

from __future__ import annotations

import pytest

from tests.properties.harness import play
from tests.properties.schedule import Schedule, for_any_schedule
from tests.properties.trace import Trace

pytestmark = pytest.mark.anyio


def undelivered_at_each_return(trace: Trace) -> list[int]:
    """How much was accepted and undelivered each time that a `send` of a chunk returned."""
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
    """Past the bound `send` waits, however many tasks send."""
    trace = await play(schedule)
    assert all(size < schedule.max_batch_bytes for size in undelivered_at_each_return(trace))


@for_any_schedule("faults", examples=280)
async def test_no_batch_is_larger_than_the_bound_and_one_chunk(schedule: Schedule) -> None:
    """Also where a `send` that waited for room was given up."""
    trace = await play(schedule)
    largest = max((len(call.body) for call in trace.chunks), default=0)
    for write in trace.bodies:
        of_the_last = schedule.last_size if write.is_last else 0
        assert len(write.body) < schedule.max_batch_bytes + largest + of_the_last
