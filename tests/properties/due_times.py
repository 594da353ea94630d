"""When each batch of a trace is due, according to guarantee D2.

The rule is written anew here, from the times that the app and the server saw.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from tests.properties.schedule import Schedule
from tests.properties.trace import Call, Trace, Write


@dataclass
class Batch:
    """A write with its chunks, and the previous write."""

    write: Write
    before: Write
    chunks: list[Call] = field(default_factory=list)
    deadline: float = inf
    """When the batch is due for its age, whatever else comes after its first chunk."""

    @property
    def arrivals(self) -> list[float]:
        """The latest time at which each chunk was buffered.

        A queued call waits at most until the previous write has ended. No other call waits.
        """
        return [
            call.called.time if call.alone else max(call.called.time, self.before.ended.time)
            for call in self.chunks
        ]

    @property
    def gathered(self) -> bool:
        """Whether the first chunk came during the previous write."""
        first = self.chunks[0]
        return first.alone and first.called < self.before.ended


class DueTimes:
    """The batches of a trace, each with the time at which D2 wants it to be written."""

    def __init__(self, schedule: Schedule, trace: Trace) -> None:
        self._schedule = schedule
        self._trace = trace
        self.batches = self._find_batches()
        self._set_deadlines()

    def _find_batches(self) -> list[Batch]:
        """Return the writes that have chunks in them."""
        writes = self._trace.writes
        batches = [Batch(write, writes[number - 1]) for number, write in enumerate(writes)]
        for call in self._trace.chunks:
            next(b for b in batches if call.body[:1] in b.write.body).chunks.append(call)
        sent = [call for call in self._trace.calls if call.kind in {"chunk", "last"}]
        if sent and sent[0].kind == "chunk" and not sent[0].body:
            # Only the first chunk counts if empty: an app may use it to send the headers.
            batch = next(b for b in batches if b.write.is_body and b.write.began > sent[0].called)
            batch.chunks.insert(0, sent[0])
        return [batch for batch in batches if batch.chunks]

    def _set_deadlines(self) -> None:
        burst_began = last_called = last_arrival = -inf
        for batch in self.batches:
            delays = self._values("delay", batch.chunks[0], self._schedule.options["max_delay"])
            called, arrival = batch.chunks[0].called.time, batch.arrivals[0]
            if called - last_arrival >= max(delays):
                burst_began = batch.deadline = called
            else:
                if arrival - last_called >= min(delays):
                    burst_began = -inf  # unknown: the exact arrival of a queued call is not seen
                batch.deadline = arrival + min(max(delays), arrival - burst_began)
            last_called, last_arrival = batch.chunks[-1].called.time, batch.arrivals[-1]

    def _values(self, kind: str, call: Call, default: float) -> list[float]:
        """Return the values of `configure` that the call may have been processed under.

        They are the last value before the call, and those set while the call was queued.
        """
        settings = [setting for setting in self._trace.settings if setting.kind == kind]
        before = [default, *(s.value for s in settings if s.at < call.called)]
        if call.alone:
            return before[-1:]
        return [before[-1], *(s.value for s in settings if call.called < s.at < call.ended)]

    def due(self, batch: Batch) -> float:
        """Return when to write the batch, if no write is in flight."""
        first, began = batch.chunks[0].called, batch.write.began
        due = [batch.deadline, self._trace.app_ended.time]
        size = 0
        for call, arrival in zip(batch.chunks, batch.arrivals, strict=True):
            size += len(call.body)
            if size >= self._schedule.max_batch_bytes or self._flushes(call):
                due.append(arrival)
        due += [
            call.called.time
            for call in self._trace.calls
            if call.alone and first <= call.called < began and self._flushes(call)
        ]
        due += [
            setting.at.time + setting.value
            for setting in self._trace.settings
            if setting.kind == "delay"
            and first < setting.at < began
            and setting.at.time >= batch.arrivals[0]
        ]
        return min(due)

    def _flushes(self, call: Call) -> bool:
        """Return True if the call waits for the delivery of everything sent before it."""
        return call.kind != "chunk" or not max(self._values("batching", call, True))
