"""The buffer of one stream: when is a batch due, and what is in it.

Pure: the caller says what time it is, sets the timer for `deadline`, and does the writing.
"""

from __future__ import annotations

from math import inf

from ._merging import Merger


class Coalescer:
    """Gathers chunks into batches.

    The first chunk, and any chunk after `max_delay` without one, is due at once. Any other is due
    `max_delay` after the first chunk of its batch. That is not a fixed tick: a tick beats against
    the rate of the tokens, and makes a steady stream stutter.

    With a merger, adjacent events of a batch are merged, and some are due at once. Sizes are those
    of what came in, all the same.

    Sizes are bytes, times are seconds on the caller's clock.
    """

    __slots__ = (
        "_chunks",
        "_last_arrival",
        "_merger",
        "bytes_taken",
        "chunks_taken",
        "deadline",
        "first_arrival",
        "in_flight",
        "is_open",
        "limit",
        "longest_delay",
        "lost",
        "max_bytes",
        "max_delay",
        "size",
        "stream_began",
        "waiting",
    )

    def __init__(self, max_delay: float, max_bytes: int, merger: Merger | None = None) -> None:
        self.max_delay = max_delay
        self.max_bytes = max_bytes
        self.size = 0
        """Bytes waiting."""
        self.in_flight = 0
        """Bytes taken for a write that has not ended."""
        self.limit = max_bytes
        """The size at which the app has to wait: what is in flight counts, too."""
        self.is_open = False
        """Whether a chunk that leaves the size below `limit` may simply `join`. Whoever has
        questions to ask first closes it."""
        self.lost = 0
        """Bytes given up, or taken for a write that failed."""
        self.waiting = False
        """Whether a batch waits. Its size may be 0: an empty chunk can be meant to send headers."""
        self.deadline = inf
        """When the waiting batch is due; infinity while nothing waits."""
        self.first_arrival = 0.0
        """When the first chunk of the waiting batch came."""
        self.stream_began: float | None = None
        """When the first chunk of all came."""
        self.chunks_taken = 0
        self.bytes_taken = 0
        self.longest_delay = 0.0
        self._chunks: list[bytes] = []
        self._last_arrival = -inf
        self._merger = merger

    def add(self, chunk: bytes, now: float) -> bool:
        """Buffer a chunk. True if the batch is due now, False if it is due at `deadline`."""
        size = self.size + len(chunk)
        self.join(chunk, size, now)
        if size >= self.max_bytes:
            self._expedite(now)
        return self.deadline <= now

    def stop_merging(self) -> None:
        """From here on chunks are joined, and nothing else."""
        if self._merger is not None:
            self._merger.stop()

    def join(self, chunk: bytes, size: int, now: float) -> bool:
        """Buffer a chunk, which makes the batch that `size`: see `is_open`. True if this is news
        for the writer: a batch has begun, or it is due now."""
        if self.waiting:
            news = now >= self.deadline
        else:
            self._begin(now)
            news = True
        self.size = size
        self._last_arrival = now
        if self._merger is None:
            self._chunks.append(chunk)
            return news
        self.chunks_taken += 1
        if self._merger.add(chunk):
            self._expedite(now)
            return True
        return news

    def _begin(self, now: float) -> None:
        self.waiting = True
        self.first_arrival = now
        quiet = now - self._last_arrival >= self.max_delay
        self.deadline = now if quiet else now + self.max_delay
        if self.stream_began is None:
            self.stream_began = now

    def _expedite(self, now: float) -> None:
        """The batch must not wait."""
        self.deadline = min(self.deadline, now)

    def passed(self, size: int) -> None:
        """A chunk that cannot be joined to others goes by, and is now in flight."""
        self.chunks_taken += 1
        self.bytes_taken += size
        self._fly(self.in_flight + size)

    def set_delay(self, max_delay: float, now: float) -> None:
        """Set another `max_delay`: for what comes, and for what waits if that makes it shorter."""
        self.max_delay = max_delay
        if self.waiting:
            self.deadline = min(self.deadline, now + max_delay)

    def take(self, now: float) -> bytes:
        """What waits as one batch, now in flight: say `sent` when its write has ended."""
        delay = now - self.first_arrival
        if delay > self.longest_delay:
            self.longest_delay = delay
        self.waiting = False
        self.deadline = inf
        chunks, self._chunks = self._chunks, []
        self.chunks_taken += len(chunks)
        size, self.size = self.size, 0
        self.bytes_taken += size
        self.in_flight = size  # `_fly` in line, as in `sent`: each batch comes by
        self.limit = self.max_bytes - size
        if self._merger is not None:
            self._merger.release()  # no byte waits longer than any other
            return self._merger.take()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def sent(self) -> None:
        """The batch in flight was delivered."""
        self.in_flight = 0
        self.limit = self.max_bytes

    def send_failed(self) -> None:
        """The batch in flight was not delivered. It is not put back: half of it may be sent."""
        self.lost += self.in_flight
        self._fly(0)

    def _fly(self, size: int) -> None:
        self.in_flight = size
        self.limit = self.max_bytes - size

    def drop(self) -> None:
        """Give up what waits and what is in flight: nothing more will be delivered."""
        self.lost += self.size + self.in_flight
        self._merger = None
        self.chunks_taken += len(self._chunks)
        self.bytes_taken += self.size
        self._chunks = []
        self.size = 0
        self._fly(0)
        self.waiting = False
        self.deadline = inf

    @property
    def full(self) -> bool:
        """Whether the app has to wait: what is buffered and in flight has reached `max_bytes`."""
        return self.size >= self.limit

    @property
    def undelivered(self) -> int:
        """Bytes that came in and were not delivered."""
        return self.size + self.in_flight + self.lost

    @property
    def chunks(self) -> int:
        """How many chunks came in."""
        return self.chunks_taken + len(self._chunks)

    @property
    def bytes_in(self) -> int:
        """How many bytes came in."""
        return self.bytes_taken + self.size
