"""When batches are written (D2).

The first chunk, and any chunk after a quiet `max_delay`, is written at once. No other byte waits
longer than `max_delay`, unless a write is in flight. In that case the batch is written when the
write in flight ends. No batch is written earlier without a reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.properties.harness import play
from tests.properties.schedule import Schedule, for_any_schedule
from tests.properties.trace import Call, Trace, Write

pytestmark = pytest.mark.anyio

EPSILON = 1e-6


@dataclass
class Batch:
    """A write with its chunks, and the previous write."""

    write: Write
    before: Write
    chunks: list[Call]


def batches(trace: Trace) -> list[Batch]:
    """Return the writes that have chunks in them."""
    found = []
    for number, write in enumerate(trace.writes):
        letters = set(write.body)
        chunks = [call for call in trace.chunks if call.body[0] in letters]
        if chunks:
            found.append(Batch(write, trace.writes[number - 1], chunks))
    return found


class Promise:
    """When each batch of a trace has to be written, according to guarantee D2."""

    def __init__(self, schedule: Schedule, trace: Trace) -> None:
        self._schedule = schedule
        self._trace = trace
        sent = [call for call in trace.calls if call.kind in {"chunk", "last"}]
        # Only the first chunk counts if empty: an app may use it to send the headers.
        self._sent = [c for c in sent if c.body or (c is sent[0] and c.kind == "chunk")]

    def setting(self, kind: str, call: Call, default: float) -> float:
        """Return the last value that `configure` had set when this call began."""
        settings = [setting for setting in self._trace.settings if setting.kind == kind]
        before = [setting.value for setting in settings if setting.at < call.called]
        value = before[-1] if before else default
        if call.alone:
            return value
        # A call that was queued may have been processed under any value set in the meantime.
        return max([value, *(s.value for s in settings if call.called < s.at < call.ended)])

    def due(self, batch: Batch) -> float:
        """Return the latest time to write the batch if no write is in flight."""
        arrivals = [self.arrival(call, batch) for call in batch.chunks]
        due = [self.due_alone(call, batch) for call in batch.chunks]
        size = 0
        for call, arrival in zip(batch.chunks, arrivals, strict=True):
            size += len(call.body)
            if size >= self._schedule.max_batch_bytes:
                due.append(arrival)
        first, began = batch.chunks[0].called, batch.write.began
        due += [
            setting.at.time + setting.value
            for setting in self._trace.settings
            if setting.kind == "delay" and first < setting.at < began
        ]
        due += [
            call.called.time
            for call in self._trace.calls
            if call.alone and first <= call.called < began and self.flushes(call)
        ]
        due.append(self._trace.app_ended.time)
        return min(due)

    def flushes(self, call: Call) -> bool:
        """Return True if the call waits for the delivery of everything sent before it."""
        return call.kind != "chunk" or not self.setting("batching", call, True)

    def arrival(self, call: Call, batch: Batch) -> float:
        """Return when the chunk is buffered. A queued call waits for the previous write to end."""
        return call.called.time if call.alone else max(call.called.time, batch.before.ended.time)

    def due_alone(self, call: Call, batch: Batch) -> float:
        """Return when the chunk would have to be written if no other chunk came after it."""
        arrival = self.arrival(call, batch)
        delay = self.setting("delay", call, self._schedule.options["max_delay"])
        place = self._sent.index(call)
        if place == 0 or not self.setting("batching", call, True):
            return arrival
        before = self._sent[place - 1]
        came_before = before.called.time if before.alone else before.ended.time
        if any(
            s.kind == "delay" and before.called < s.at < call.ended for s in self._trace.settings
        ):
            # `max_delay` changed in between. D2 does not say which value the pause has to reach.
            return arrival + delay
        with_it = not before.body and before.called > batch.before.began
        if with_it or arrival - came_before >= delay:
            return arrival  # an empty first chunk that is still pending takes this chunk along
        return arrival + delay


@for_any_schedule("faults", "timeout", examples=480)
async def test_each_batch_goes_in_time(schedule: Schedule) -> None:
    """A batch is written when the first of its chunks is due, or at the end of the previous write.

    The later of the two times counts.
    """
    trace = await play(schedule)
    promise = Promise(schedule, trace)
    for batch in batches(trace):
        due = max(promise.due(batch), batch.before.ended.time)
        assert batch.write.began.time <= due + EPSILON


@for_any_schedule("faults", "timeout", "producers", "keepalive", "delay", examples=350)
async def test_no_batch_goes_without_a_reason(schedule: Schedule) -> None:
    """A batch is not written before it is due, unless it was buffered during a write that ended.

    A timer that was set for something else must not flush it early.
    """
    trace = await play(schedule)
    promise = Promise(schedule, trace)
    for batch in batches(trace):
        gathered = batch.chunks[0].called < batch.before.ended
        began = batch.write.began.time
        assert began >= promise.due(batch) - EPSILON or (
            gathered and began <= batch.before.ended.time + EPSILON
        )
