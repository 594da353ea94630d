"""The buffer of one stream: what is in the next batch, and when the batch is due.

Pure: the caller passes the time, and the batch is written elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from ._merging import Merger, Urgency

NEVER: Final = -inf
"""Before any time. One object: each buffer would have several of its own."""

EXTRA_WRITES: Final = 8
"""How many more writes a stream may cost than without merging: see `Buffer._merge`."""

RARE: Final = 8
"""Chunks of deltas after which an event that is no delta may hurry: such events are then rare."""

_AT_ONCE: Final = Urgency.AT_ONCE


def no_writer(now: float) -> None:
    """Schedule nothing: the `Buffer.schedule` of a buffer that no writer serves."""


class Buffer:
    """Gathers chunks into batches.

    The first chunk, and any chunk after `max_delay` without one, is due at once and begins a
    *burst*. Any other batch is due when its first chunk has waited for `max_delay`, or for as long
    as the burst was old when that chunk came, whichever is shorter. So delays double from nothing
    up to `max_delay`. LLM streams begin with a chunk without text (a role, `message_start`, a
    ping); the first text, a few milliseconds later, must not wait a whole `max_delay`.

    The deadline is not a fixed tick. A tick would beat against the rate of the tokens, and a steady
    stream would stutter.

    With a merger, adjacent events of a batch are merged, and some events make their batch due at
    once: those of `flush_on` always, those that are no deltas as long as they are rare.

    Sizes count the bytes that came in, before merging. Times are seconds on the caller's clock.
    """

    __slots__ = (
        "_burst_began",
        "_bytes_taken",
        "_chunks",
        "_chunks_taken",
        "_extra_writes",
        "_fast_path",
        "_first_arrival",
        "_interrupted",
        "_last_arrival",
        "_lost",
        "_merger",
        "_run",
        "_unhurried_deadline",
        "deadline",
        "in_flight",
        "longest_delay",
        "max_batch_bytes",
        "max_delay",
        "nowait_limit",
        "schedule",
        "size",
        "stream_began",
        "waiting",
    )

    def __init__(
        self, max_delay: float, max_batch_bytes: int, merger: Merger | None = None
    ) -> None:
        self.max_delay = max_delay
        self.max_batch_bytes = max_batch_bytes
        """The bound: a batch of this size is due. A producer waits (`BatchWriter.drain`) while this
        much is buffered and in flight."""
        self.schedule: Callable[[float], None] = no_writer
        """Called with the current time when a batch begins, and when a chunk makes the batch due
        earlier. `BatchWriter` sets it to its own `schedule`."""
        self.size = 0
        """Bytes in the waiting batch."""
        self.in_flight = 0
        """Bytes taken for a write that has not ended."""
        self.nowait_limit = 0
        """`add_nowait` accepts a chunk while the batch stays smaller than this. 0 while the fast
        path is closed."""
        self.waiting = False
        """True while a batch waits. Its size may be 0: daphne sends the headers with an empty
        chunk."""
        self.deadline = inf
        """When the waiting batch is due; infinity while no batch waits."""
        self.stream_began: float | None = None
        """When the first chunk was added that is not empty; None before."""
        self.longest_delay = 0.0
        """The longest time that a chunk waited before its batch was taken."""
        self._fast_path = False
        self._chunks: list[bytes] = []
        self._merger = merger
        self._first_arrival = 0.0  # of the waiting batch
        self._last_arrival = NEVER
        self._burst_began = NEVER
        self._run = 0
        """Chunks of deltas since the last event that is no delta."""
        self._interrupted = False
        """True once an event that is no delta has come behind a delta."""
        self._unhurried_deadline = NEVER
        """When the batch that hurried last would have been due."""
        self._extra_writes = 0
        """An upper limit of the writes that hurrying has cost."""
        self._chunks_taken = 0
        self._bytes_taken = 0
        self._lost = 0

    # Chunks in.

    def add_nowait(self, chunk: bytes, now: float) -> bool:
        """Add a chunk and return True, if the producer need not wait.

        Otherwise return False and add nothing: the chunk has to take the slow path. An empty chunk
        always has to.
        """
        size = self.size + len(chunk)
        if size >= self.nowait_limit or not chunk:
            return False
        self.size = size
        if not self.waiting:
            self._begin_batch(now)
        self._last_arrival = now
        if self._merger is None:
            self._chunks.append(chunk)
        else:
            self._merge(chunk, now)
        return True

    def add(self, chunk: bytes, now: float) -> None:
        """Add a chunk, even beyond the bound. The producer waits afterwards, while `full`.

        An empty chunk begins a batch, and counts as no chunk.
        """
        self.size += len(chunk)
        if not self.waiting:
            self._begin_batch(now)
        self._last_arrival = now
        if not chunk:
            return
        if self.stream_began is None:
            self.stream_began = now
        if self._merger is None:
            self._chunks.append(chunk)
        else:
            self._merge(chunk, now)
        if self.size >= self.max_batch_bytes:
            self._make_due(now)

    def _begin_batch(self, now: float) -> None:
        self.waiting = True
        self._first_arrival = now
        if now - self._last_arrival >= self.max_delay:
            self._burst_began = self.deadline = now
        else:
            wait = now - self._burst_began  # the age of the burst
            if wait > self.max_delay:
                wait = self.max_delay
            self.deadline = now + wait
            if now < self._unhurried_deadline:
                # Without hurrying, this chunk would be in the batch before.
                self._extra_writes += 1
                self._unhurried_deadline = NEVER
        self.schedule(now)

    def _merge(self, chunk: bytes, now: float) -> None:
        assert self._merger is not None
        self._chunks_taken += 1  # counted now: the merger keeps no list of chunks
        urgency = self._merger.add(chunk)
        if not urgency:
            self._run += 1
        elif urgency is _AT_ONCE:
            self._make_due(now)
        elif self._is_rare(now) and self._extra_writes < EXTRA_WRITES and now < self.deadline:
            # A batch that goes early costs at most one write. It costs none if no chunk comes
            # before the batch would have been due: all later batches then begin as late as
            # otherwise, or later. (The server takes each write at once.)
            self._unhurried_deadline = self.deadline
            self._make_due(now)

    def _is_rare(self, now: float) -> bool:
        """Return True if events that are no deltas are rare so far. Called when one has come.

        If they come beside each delta (ag-ui-langgraph's `RAW` events), a write for each of them
        would undo the batching.
        """
        run, self._run = self._run, 0
        if self._interrupted:
            return run >= RARE
        if run:  # the first event behind a delta. Behind a single one, more may follow.
            self._interrupted = True
            return run > 1
        return self.deadline - now >= self.max_delay / 2  # otherwise there is little to gain

    def _make_due(self, now: float) -> None:
        if now < self.deadline:
            self.deadline = now
            self.schedule(now)

    def add_unbuffered(self, size: int, now: float) -> None:
        """Count a chunk that is written by itself, and is now in flight."""
        if not size:
            return
        if self.stream_began is None:
            self.stream_began = now
        self._chunks_taken += 1
        self._bytes_taken += size
        self._set_in_flight(self.in_flight + size)

    def set_max_delay(self, max_delay: float, now: float) -> None:
        """Set another `max_delay`. The waiting batch is due earlier if that is shorter."""
        self.max_delay = max_delay
        if self.waiting:
            self.deadline = min(self.deadline, now + max_delay)

    def stop_merging(self) -> None:
        """Join the chunks that follow, without merging events."""
        if self._merger is not None:
            self._merger.stop()

    # Flow control.

    @property
    def untouched(self) -> bool:
        """True until a chunk is added, even an empty one."""
        return self.stream_began is None and self._last_arrival == NEVER

    @property
    def full(self) -> bool:
        """True while the producer has to wait: the bytes buffered and in flight reach the bound."""
        return self.size + self.in_flight >= self.max_batch_bytes

    def set_fast_path(self, *, is_open: bool) -> None:
        """Open or close `add_nowait`, which accepts nothing while the fast path is closed."""
        self._fast_path = is_open
        self.nowait_limit = self.max_batch_bytes - self.in_flight if is_open else 0

    def _set_in_flight(self, size: int) -> None:
        self.in_flight = size
        if self._fast_path:
            self.nowait_limit = self.max_batch_bytes - size

    # Batches out.

    def take(self, now: float) -> bytes:
        """Return the waiting batch, which is then in flight until `sent`, `send_failed` or
        `drop`."""
        delay = now - self._first_arrival
        if delay > self.longest_delay:
            self.longest_delay = delay
        self.waiting = False
        self.deadline = inf
        chunks, self._chunks = self._chunks, []
        self._chunks_taken += len(chunks)
        size, self.size = self.size, 0
        self._bytes_taken += size
        self.in_flight = size  # `_set_in_flight` inlined, as in `sent`: each runs once a batch
        if self._fast_path:
            self.nowait_limit = self.max_batch_bytes - size
        if self._merger is not None:
            self._merger.release()  # also half an event, which waits no longer than other chunks
            return self._merger.take()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def sent(self) -> None:
        """Count the bytes in flight as delivered."""
        self.in_flight = 0
        if self._fast_path:
            self.nowait_limit = self.max_batch_bytes

    def send_failed(self) -> None:
        """Count the bytes in flight as lost. They are not written again, because the client may
        have got a part of them."""
        self._lost += self.in_flight
        self._set_in_flight(0)

    def drop(self) -> None:
        """Count what is buffered and in flight as lost, and accept no more on the fast path."""
        self._lost += self.size + self.in_flight
        self._merger = None
        self._chunks_taken += len(self._chunks)
        self._bytes_taken += self.size
        self._chunks = []
        self.size = 0
        self.in_flight = 0
        self.set_fast_path(is_open=False)
        self.waiting = False
        self.deadline = inf

    # Counts.

    @property
    def chunks(self) -> int:
        """How many chunks came in."""
        return self._chunks_taken + len(self._chunks)

    @property
    def bytes_in(self) -> int:
        """How many bytes came in."""
        return self._bytes_taken + self.size

    @property
    def undelivered(self) -> int:
        """How many bytes came in and were not delivered."""
        return self.size + self.in_flight + self._lost
