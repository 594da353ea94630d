"""The server's records: one for each stream, and the state of its process."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import psutil

from sse_batching import CancellationToken, StreamReport, current_token


@dataclass(slots=True, kw_only=True)
class Record:
    """One request as the server saw it."""

    number: int
    asked: bool = False
    cancellations: list[str] = field(default_factory=list)
    """The reason at each call of the callback that is registered with the token."""
    outcome: str | None = None
    reason: str | None = None
    bytes_in: int = 0
    bytes_undelivered: int = 0
    last_began: bool = False
    """Whether the app has sent its last message."""
    last_taken: bool = False
    """Whether the server has taken the last message."""
    told: bool = False
    """Whether the server sent `http.disconnect` before it had taken the last message."""
    told_before_last: bool = False
    """Whether the server sent `http.disconnect` before the app had sent the last message."""
    opened: int = 0
    """Generators that the app has started."""
    closed: int = 0
    """Generators whose `finally` has run."""
    returned_at: float | None = None
    """The time at which the request ended."""
    closed_late: float = 0.0
    """Seconds from the end of the request until the last generator was closed."""
    left: list[str] = field(default_factory=list)
    """What the middleware left behind when the request had ended, and what it raised."""


class Streams:
    """The records of open requests, and of ended requests that were not fetched yet."""

    def __init__(self) -> None:
        self.open: dict[int, Record] = {}
        self.ended: list[Record] = []
        self.late = 0
        """The number of tokens that were cancelled after their request had ended."""

    def returned(self, record: Record) -> None:
        """Record the end of the request."""
        record.returned_at = time.monotonic()
        self._end(record)

    def _end(self, record: Record) -> None:
        """Move the record to `ended` once the request and its generators have ended."""
        if record.returned_at is not None and record.closed == record.opened:
            self.ended.append(self.open.pop(record.number))

    def fetch(self) -> list[Record]:
        ended, self.ended = self.ended, []
        return ended

    def ask(self, record: Record) -> CancellationToken:
        """Ask for the token, and record its cancellation."""
        token = current_token()
        record.asked = True
        token.register(self._cancelled, record, token)
        return token

    def closed(self, record: Record) -> None:
        """Record that a generator of the app was closed."""
        record.closed += 1
        if record.returned_at is not None:
            record.closed_late = time.monotonic() - record.returned_at
            self._end(record)

    def _cancelled(self, record: Record, token: CancellationToken) -> None:
        record.cancellations.append(str(token.reason))
        self.late += record.returned_at is not None


def report(record: Record, report: StreamReport) -> None:
    """Record the report that `on_close` received."""
    record.outcome = report.outcome
    record.reason = report.reason
    record.bytes_in = report.bytes_in
    record.bytes_undelivered = report.bytes_undelivered


def own_objects(objects: Counter[str]) -> dict[str, int]:
    return {name: count for name, count in objects.items() if name.startswith("sse_batching.")}


@dataclass(slots=True, kw_only=True)
class State:
    """Counts of everything in the server's process."""

    process: int
    tasks: int
    descriptors: int
    threads: int
    registered: int
    """Callbacks that are registered with the token that outlives all requests."""
    open: int
    late: int
    uncollected: dict[str, int]
    """Objects of the package before a garbage collection, by type."""
    objects: dict[str, int]
    """Objects of all types after a garbage collection, by type."""
    log: dict[str, int]
    """Lines of the log, by logger and level."""

    @property
    def own(self) -> dict[str, int]:
        return own_objects(Counter(self.objects))


def take_state(streams: Streams, parent: CancellationToken, log: Counter[str]) -> State:
    """Return the state of this process."""
    uncollected = own_objects(_objects())
    gc.collect()
    return State(
        process=os.getpid(),
        tasks=_tasks(),
        descriptors=psutil.Process().num_fds(),
        threads=threading.active_count(),
        registered=len(parent._callbacks),
        open=len(streams.open),
        late=streams.late,
        uncollected=uncollected,
        objects=dict(_objects()),
        log=dict(log),
    )


def _objects() -> Counter[str]:
    kinds = Counter(map(type, gc.get_objects()))
    names: Counter[str] = Counter()
    for kind, count in kinds.items():
        names[f"{kind.__module__}.{kind.__qualname__}"] += count
    return names


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        import trio  # imported only where trio runs the server

        return trio.lowlevel.current_statistics().tasks_living


def as_json(value: Record | State) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}
