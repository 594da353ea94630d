"""The findings of a run, and which of them are faults."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from sse_batching import CancelReason
from tests.soak.app import THREADS
from tests.soak.record import State

TOLERANCE: Final = 4 * 2**20
"""Bytes by which the median of the memory may grow from the third quarter to the last.

The number of streams that happen to be open moves the median by a part of that. A leak of 800 bytes
for each of 5,000 streams, the last quarter of 20,000, would reach the tolerance.
"""

STRAY: Final = 0.02
"""Objects of any type that a stream may leave on average, because caches fill.

A leak leaves an object with every stream of some kind, and no kind of stream is that rare.
"""

UNKNOWN: Final = "left before it was read"
"""The outcome of a stream that never reached the app."""

FEW_UNKNOWN: Final = 0.03
"""The largest share of streams that may be `UNKNOWN`. A tenth of all clients leave early enough."""

FEW: Final = 200
"""Objects of any type that may be left in addition to `STRAY`, however few streams there were."""


@dataclass(kw_only=True)
class Findings:
    """The findings of a run."""

    streams: int
    faults: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    memory: list[int] = field(default_factory=list)
    """Bytes of the server's process after the warm-up, at even steps of ended streams."""
    closed_late: float = 0.0
    """The most seconds that a generator was open after the end of its request."""
    garbage: int = 0
    """Objects of the package that awaited a garbage collection when the last stream had ended."""
    states: dict[str, State] = field(default_factory=dict)
    """States of the server: before the first stream, after the warm-up, and at the end."""
    output: list[str] = field(default_factory=list)
    """Lines that the server printed during the run, without INFO lines."""

    @property
    def quarters(self) -> list[float]:
        """The median of the memory in each quarter of the streams."""
        size = max(1, len(self.memory) // 4)
        return [statistics.median(self.memory[at * size :][:size]) for at in range(4)]

    @property
    def cut(self) -> int:
        return sum(count for kind, count in self.outcomes.items() if kind.startswith("incomplete"))

    def growth(self) -> Counter[str]:
        """Return how many more objects of each type there are than after the warm-up."""
        warm, end = (Counter(self.states[when].objects) for when in ("warm", "end"))
        return end - warm

    def judge(self) -> None:
        """Add the faults of the server as a whole."""
        self.faults += _left_behind(self.states["begin"], self.states["end"])
        self.faults += _written(self.states["end"], self.cut)
        self.faults += self._said()
        if self.outcomes[UNKNOWN] > FEW_UNKNOWN * self.streams:
            self.faults.append(f"{self.outcomes[UNKNOWN]} streams were never served")
        limit = FEW + STRAY * self.streams
        for name, count in self.growth().items():
            if count > limit:
                self.faults.append(f"{count} more objects of {name} than after the warm-up")
        third, last = self.quarters[2:]
        if last - third > TOLERANCE:
            self.faults.append(f"memory grew by {last - third:,.0f} bytes in the last quarter")

    def _said(self) -> Iterator[str]:
        # uvicorn does not know that a client has stalled. It only sees an app that stops early.
        stalled = self.outcomes[f"incomplete {CancelReason.SEND_TIMEOUT}"]
        for line in self.output:
            if "callable returned without completing response" in line and stalled:
                stalled -= 1
            else:
                yield f"the server said: {line}"


def _left_behind(begin: State, end: State) -> Iterator[str]:
    for name in ("tasks", "descriptors", "registered", "open", "late"):
        before, after = getattr(begin, name), getattr(end, name)
        if before != after:
            yield f"{name}: {before} at the beginning, {after} at the end"
    if end.threads > begin.threads + THREADS:
        yield f"{end.threads} threads, of a pool of {THREADS}"
    for name, count in (Counter(end.own) - Counter(begin.own)).items():
        yield f"{count} objects are left of {name}"


def _written(end: State, cut: int) -> Iterator[str]:
    """Expect one line for each stream that was cut, and no line above INFO from any logger."""
    lines = end.log.get("sse_batching INFO", 0)
    if lines != cut:
        yield f"{lines} lines in the log, of {cut} streams that were cut"
    others = {name: count for name, count in end.log.items() if not name.endswith(" INFO")}
    if others:
        yield f"other lines in the log: {others}"


def table(found: Findings) -> str:
    """Format the findings for people."""
    rows = [("streams", f"{found.streams:,} in {found.seconds:.0f} s")]
    rows += [(f"  {kind}", f"{count:,}") for kind, count in sorted(found.outcomes.items())]
    begin, warm, end = (found.states[when] for when in ("begin", "warm", "end"))
    for name in ("tasks", "descriptors", "threads", "registered"):
        counts = (str(getattr(state, name)) for state in (begin, warm, end))
        rows.append((name, " -> ".join(counts)))
    own = (f"{sum(state.own.values()):,}" for state in (begin, warm, end))
    rows.append(("objects of the package", " -> ".join(own)))
    rows.append(("  before a collection", f"{found.garbage:,}"))
    rows.append(("generators closed within", f"{found.closed_late * 1000:.1f} ms of the end"))
    most = ", ".join(f"{name} {count:+}" for name, count in found.growth().most_common(3))
    rows.append(("other objects that grew", most or "none"))
    quarters = " -> ".join(f"{median / 2**20:.1f}" for median in found.quarters)
    rows.append(("memory by quarters, MiB", quarters))
    rows.append(("faults", str(len(found.faults))))
    return "\n".join(f"{name:26} {value}" for name, value in rows)
