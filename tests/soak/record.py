"""What the server notes: of one stream, and of itself."""

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
    """What became of one request, as the server saw it."""

    number: int
    asked: bool = False
    cancellations: list[str] = field(default_factory=list)
    """The reason of each call of the callback that is registered with the token."""
    outcome: str | None = None
    reason: str | None = None
    bytes_in: int = 0
    bytes_undelivered: int = 0
    last_began: bool = False
    """The app has sent its last message."""
    last_taken: bool = False
    """The server has taken it."""
    told: bool = False
    """The server said `http.disconnect` before it had taken the last message."""
    told_before_last: bool = False
    """And before the app had sent that."""
    opened: int = 0
    closed: int = 0
    """Generators of the app, and those whose `finally` has run."""
    returned_at: float | None = None
    """When the request ended."""
    closed_late: float = 0.0
    """Seconds from then until the last generator was closed."""
    left: list[str] = field(default_factory=list)
    """What was left of the middleware when the request had ended, and what it raised."""


class Streams:
    """The records: of the requests that are open, and of those that have ended and were not
    fetched."""

    def __init__(self) -> None:
        self.open: dict[int, Record] = {}
        self.ended: list[Record] = []
        self.late = 0
        """Cancellations of a token whose request had ended."""

    def returned(self, record: Record) -> None:
        """The request is over."""
        record.returned_at = time.monotonic()
        self._end(record)

    def _end(self, record: Record) -> None:
        """Done with it, when its generators are closed too."""
        if record.returned_at is not None and record.closed == record.opened:
            self.ended.append(self.open.pop(record.number))

    def fetch(self) -> list[Record]:
        ended, self.ended = self.ended, []
        return ended

    def ask(self, record: Record) -> CancellationToken:
        """Ask for the token, and note what becomes of it."""
        token = current_token()
        record.asked = True
        token.register(self._cancelled, record, token)
        return token

    def closed(self, record: Record) -> None:
        """A generator of the app's is closed."""
        record.closed += 1
        if record.returned_at is not None:
            record.closed_late = time.monotonic() - record.returned_at
            self._end(record)

    def _cancelled(self, record: Record, token: CancellationToken) -> None:
        record.cancellations.append(str(token.reason))
        self.late += record.returned_at is not None


def report(record: Record, report: StreamReport) -> None:
    """Note what `on_close` is told."""
    record.outcome = report.outcome
    record.reason = report.reason
    record.bytes_in = report.bytes_in
    record.bytes_undelivered = report.bytes_undelivered


def own_objects(objects: Counter[str]) -> dict[str, int]:
    return {name: count for name, count in objects.items() if name.startswith("sse_batching.")}


@dataclass(slots=True, kw_only=True)
class State:
    """What there is of the server's process."""

    process: int
    tasks: int
    descriptors: int
    threads: int
    registered: int
    """Callbacks with the token that outlives all requests."""
    open: int
    late: int
    uncollected: dict[str, int]
    """Objects of the package's, before a garbage collection."""
    objects: dict[str, int]
    """Objects of all types, after one."""
    log: dict[str, int]
    """Lines of the log, by logger and level."""

    @property
    def own(self) -> dict[str, int]:
        return own_objects(Counter(self.objects))


def take_state(streams: Streams, parent: CancellationToken, log: Counter[str]) -> State:
    """Look at this process."""
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
        import trio  # only where it runs

        return trio.lowlevel.current_statistics().tasks_living


def as_json(value: Record | State) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}
