"""What a `Buffer` holds: no byte is lost, doubled or reordered, and the bound is kept.

`test_buffer_deadlines` has the rest: when a batch is due.
"""

from __future__ import annotations

from math import inf
from typing import Final

from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sse_batching._buffer import Buffer

DELAY: Final = 50
"""Milliseconds, as all times here. Whole numbers are exact."""

LARGE: Final = 1_000_000


def flush(buffer: Buffer, now: float) -> bytes:
    """Take the waiting batch, and deliver it in the same moment."""
    batch = buffer.take(now)
    buffer.sent()
    return batch


# The fast path.


def test_the_fast_path_is_closed_until_it_is_opened() -> None:
    """A new buffer accepts nothing on the fast path: the slow path has to see the first chunk."""
    buffer = Buffer(DELAY, LARGE)
    assert not buffer.add_nowait(b"a", 1000)

    buffer.set_fast_path(is_open=True)
    assert buffer.add_nowait(b"a", 1000)

    buffer.set_fast_path(is_open=False)
    assert not buffer.add_nowait(b"a", 1000)
    assert buffer.take(1000) == b"a"


def test_the_fast_path_accepts_no_chunk_that_reaches_the_bound() -> None:
    """The chunk that fills the buffer takes the slow path, where its producer waits."""
    buffer = Buffer(DELAY, 100)
    buffer.set_fast_path(is_open=True)

    assert buffer.add_nowait(bytes(60), 1000)
    assert not buffer.add_nowait(bytes(40), 1000)
    assert buffer.add_nowait(bytes(39), 1000)


def test_the_fast_path_counts_the_bytes_in_flight() -> None:
    """Bytes that are being written count against the bound until the write has ended."""
    buffer = Buffer(DELAY, 100)
    buffer.set_fast_path(is_open=True)
    buffer.add_nowait(bytes(60), 1000)
    buffer.take(1000)

    assert not buffer.add_nowait(bytes(40), 1001)

    buffer.sent()
    assert buffer.add_nowait(bytes(40), 1002)


def test_the_fast_path_accepts_no_empty_chunk() -> None:
    """An empty chunk takes the slow path, which knows whether the chunk means anything."""
    buffer = Buffer(DELAY, LARGE)
    buffer.set_fast_path(is_open=True)

    assert not buffer.add_nowait(b"", 1000)


@given(st.lists(st.tuples(st.binary(max_size=9), st.integers(0, 2 * DELAY), st.booleans())))
def test_both_paths_lead_to_the_same_batches(chunks: list[tuple[bytes, int, bool]]) -> None:
    """A chunk that the fast path accepts is due, counted and joined as on the slow path."""
    fast, slow, now = Buffer(DELAY, 30), Buffer(DELAY, 30), 1000
    fast.set_fast_path(is_open=True)
    for chunk, gap, taken in chunks:
        now += gap
        if not fast.add_nowait(chunk, now):
            fast.add(chunk, now)
        slow.add(chunk, now)
        assert (fast.deadline, fast.size, fast.full) == (slow.deadline, slow.size, slow.full)
        if taken:
            assert flush(fast, now) == flush(slow, now)


# What is in a batch.


class Buffering(RuleBasedStateMachine):
    """What a writer and its producers do with a buffer, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = Buffer(DELAY, 64)
        self.now = 1000
        self.came: list[bytes] = []
        self.waiting = b""
        self.writing: bytes | None = None
        self.delivered = b""
        self.given_up = 0

    @rule(chunk=st.binary(max_size=40), gap=st.integers(0, 2 * DELAY))
    def add(self, chunk: bytes, gap: int) -> None:
        self.now += gap
        self.buffer.add(chunk, self.now)
        if chunk:  # an empty chunk does not count
            self.came.append(chunk)
        self.waiting += chunk
        assert self.buffer.deadline <= self.now or len(self.waiting) < 64

    @rule(is_open=st.booleans())
    def set_fast_path(self, is_open: bool) -> None:
        self.buffer.set_fast_path(is_open=is_open)

    @rule(chunk=st.binary(max_size=40), gap=st.integers(0, 2 * DELAY))
    def add_nowait(self, chunk: bytes, gap: int) -> None:
        self.now += gap
        if self.buffer.add_nowait(chunk, self.now):
            self.came.append(chunk)
            self.waiting += chunk
            assert not self.buffer.full

    @precondition(lambda self: self.buffer.waiting and self.writing is None)
    @rule()
    def take(self) -> None:
        self.writing = self.buffer.take(self.now)
        assert self.writing == self.waiting
        self.waiting = b""

    @precondition(lambda self: self.writing is not None)
    @rule()
    def deliver(self) -> None:
        assert self.writing is not None
        self.buffer.sent()
        self.delivered += self.writing
        self.writing = None

    @precondition(lambda self: self.writing is not None)
    @rule()
    def fail(self) -> None:
        assert self.writing is not None
        self.buffer.send_failed()
        self.given_up += len(self.writing)
        self.writing = None

    @rule()
    def drop(self) -> None:
        self.buffer.drop()
        self.given_up += len(self.waiting + (self.writing or b""))
        self.waiting, self.writing = b"", None

    @invariant()
    def bytes_in_are_bytes_out_in_order(self) -> None:
        came = b"".join(self.came)
        if not self.given_up:
            assert self.delivered + (self.writing or b"") + self.waiting == came

    @invariant()
    def every_byte_is_counted(self) -> None:
        writing = len(self.writing or b"")
        buffer = self.buffer
        assert (buffer.size, buffer.in_flight) == (len(self.waiting), writing)
        assert buffer.bytes_in == sum(map(len, self.came))
        assert buffer.chunks == len(self.came)
        assert buffer.undelivered == buffer.bytes_in - len(self.delivered)

    @invariant()
    def it_is_full_from_the_bound_on(self) -> None:
        buffered = len(self.waiting) + len(self.writing or b"")
        assert self.buffer.full is (buffered >= 64)

    @invariant()
    def only_a_waiting_batch_has_a_deadline(self) -> None:
        buffer = self.buffer
        assert buffer.deadline <= self.now + DELAY if buffer.waiting else buffer.deadline == inf
        assert buffer.waiting or not self.waiting


Buffering.TestCase.settings = settings(deadline=None, max_examples=40, stateful_step_count=40)
TestBuffering = Buffering.TestCase


def test_a_batch_of_one_chunk_is_that_chunk() -> None:
    """A chunk that goes out by itself is not copied."""
    buffer, chunk = Buffer(DELAY, LARGE), bytes(1000)
    buffer.add(chunk, 1000)

    assert buffer.take(1000) is chunk


def test_bytes_in_flight_count_against_the_bound() -> None:
    """The buffer is full when the waiting bytes and those in flight reach `max_batch_bytes`."""
    buffer = Buffer(DELAY, 100)
    buffer.add(bytes(60), 1000)
    buffer.take(1000)
    assert not buffer.full

    buffer.add(bytes(40), 1001)
    assert buffer.full

    buffer.sent()
    assert not buffer.full


def test_a_write_that_fails_is_not_made_again() -> None:
    """The bytes of a failed write count as lost and never come back: half of them may be sent.
    Pitfall 39."""
    buffer = Buffer(DELAY, LARGE)
    buffer.add(b"lost", 1000)
    buffer.take(1000)
    buffer.send_failed()

    buffer.add(b"next", 1100)

    assert buffer.take(1100) == b"next"
    assert (buffer.undelivered, buffer.bytes_in) == (8, 8)


def test_a_write_that_ends_after_the_drop_is_not_counted_twice() -> None:
    """A write that was dropped, and fails afterwards, is lost once."""
    buffer = Buffer(DELAY, LARGE)
    buffer.add(b"abc", 1000)
    buffer.take(1000)
    buffer.drop()

    buffer.send_failed()

    assert buffer.undelivered == 3


def test_the_longest_delay_is_that_of_the_byte_that_waited_longest() -> None:
    """The delay of a batch is counted from its first chunk, and the longest delay is kept."""
    buffer = Buffer(DELAY, LARGE)
    for arrivals, taken in (((1000,), 1001), ((1010, 1040), 1052), ((1100,), 1105)):
        for now in arrivals:
            buffer.add(b"x", now)
        flush(buffer, taken)

    assert buffer.longest_delay == 42


def test_the_beginning_of_the_stream_is_its_first_chunk() -> None:
    """`stream_began` is the time of the first chunk, and stays so."""
    buffer = Buffer(DELAY, LARGE)
    assert buffer.stream_began is None

    for now in (1003, 1200):
        buffer.add(b"x", now)
        flush(buffer, now)

    assert buffer.stream_began == 1003
