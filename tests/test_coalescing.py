"""The buffer of one stream: no byte is lost, doubled or reordered, and none waits too long."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from typing import Final

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sse_batching._coalescing import Coalescer

DELAY: Final = 50
"""Times in these tests are whole numbers, milliseconds say: no rounding blurs a deadline."""

LARGE: Final = 1_000_000


def flushed(coalescer: Coalescer, now: float) -> bytes:
    """Take the waiting batch and have it delivered at once."""
    batch = coalescer.take(now)
    coalescer.sent()
    return batch


# When a batch is due.


def test_the_first_chunk_is_due_at_once() -> None:
    """The first chunk of a stream does not wait for company."""
    coalescer = Coalescer(DELAY, LARGE)

    assert coalescer.add(b"a", 1000) is True
    assert coalescer.deadline == 1000


@pytest.mark.parametrize(
    ("pause", "due_at"),
    [
        pytest.param(0, 1000 + 0 + DELAY, id="in-the-same-moment"),
        pytest.param(1, 1000 + 1 + DELAY, id="soon"),
        pytest.param(DELAY - 1, 1000 + 2 * DELAY - 1, id="just-before-a-quiet-delay"),
        pytest.param(DELAY, 1000 + DELAY, id="after-a-quiet-delay"),
        pytest.param(100 * DELAY, 1000 + 100 * DELAY, id="after-a-long-silence"),
    ],
)
def test_the_next_chunk_waits_unless_it_broke_a_silence(pause: int, due_at: int) -> None:
    """A chunk waits a delay from its arrival, unless it came after a quiet delay."""
    coalescer = Coalescer(DELAY, LARGE)
    coalescer.add(b"a", 1000)
    flushed(coalescer, 1000)

    due_now = coalescer.add(b"b", 1000 + pause)

    assert coalescer.deadline == due_at
    assert due_now is (due_at == 1000 + pause)


def test_a_silence_is_counted_from_the_last_chunk_not_from_the_last_write() -> None:
    """A slow write does not make a steady stream look as if it had paused."""
    coalescer = Coalescer(DELAY, LARGE)
    for now in (1000, 1030):
        coalescer.add(b"a", now)
    flushed(coalescer, 1035)

    assert coalescer.add(b"b", 1060) is False
    assert coalescer.deadline == 1060 + DELAY


def test_a_steady_stream_does_not_push_its_deadline_ahead() -> None:
    """The deadline is that of the batch's first chunk, however many follow it."""
    coalescer = Coalescer(DELAY, LARGE)
    coalescer.add(b"first", 1000)
    flushed(coalescer, 1000)

    due = [coalescer.add(b"x", now) for now in range(1010, 1060, 10)]

    assert due == [False] * 5
    assert coalescer.deadline == 1010 + DELAY
    assert coalescer.add(b"x", 1060) is True


def test_an_overdue_batch_stays_due() -> None:
    """What is added to a batch that a slow write kept waiting is due as well."""
    coalescer = Coalescer(DELAY, LARGE)
    coalescer.add(b"a", 1000)

    assert coalescer.add(b"b", 1500) is True
    assert coalescer.deadline == 1000


def test_without_a_delay_every_chunk_is_due_at_once() -> None:
    """With `max_delay` 0 nothing waits, but what piles up behind a write goes out together."""
    coalescer = Coalescer(0, LARGE)
    coalescer.add(b"a", 1000)
    coalescer.take(1000)

    assert [coalescer.add(chunk, 1000) for chunk in (b"b", b"c")] == [True, True]
    coalescer.sent()
    assert coalescer.take(1007) == b"bc"


@pytest.mark.parametrize(
    ("chunks", "due"),
    [([99], [False]), ([100], [True]), ([60, 39], [False, False]), ([60, 40], [False, True])],
)
def test_a_batch_of_the_full_size_is_due_at_once(chunks: list[int], due: list[bool]) -> None:
    """A batch that has reached `max_batch_bytes` does not wait for its deadline."""
    coalescer = Coalescer(DELAY, 100)
    coalescer.add(b"a", 1000)
    flushed(coalescer, 1000)

    assert [coalescer.add(bytes(size), 1001) for size in chunks] == due


def test_nothing_is_due_while_nothing_waits() -> None:
    """An empty buffer has no deadline, before the first chunk and after each flush."""
    coalescer = Coalescer(DELAY, LARGE)
    assert (coalescer.waiting, coalescer.deadline) == (False, inf)

    coalescer.add(b"a", 1000)
    flushed(coalescer, 1000)

    assert (coalescer.waiting, coalescer.deadline) == (False, inf)


def test_an_empty_chunk_waits_like_any_other() -> None:
    """An empty chunk makes a batch: on some servers it is what sends the headers."""
    coalescer = Coalescer(DELAY, LARGE)

    assert coalescer.add(b"", 1000) is True
    assert (coalescer.waiting, coalescer.size, coalescer.chunks) == (True, 0, 1)
    assert coalescer.take(1000) == b""


@pytest.mark.parametrize(
    ("delay", "deadline"),
    [
        pytest.param(5 * DELAY, 1010 + DELAY, id="longer"),
        pytest.param(20, 1015 + 20, id="shorter"),
        pytest.param(0, 1015, id="none"),
    ],
)
def test_a_changed_delay_holds_for_what_waits_only_if_it_is_shorter(
    delay: int, deadline: int
) -> None:
    """The batch that waits is never put off; and what comes after it waits as it is now told."""
    coalescer = Coalescer(DELAY, LARGE)
    coalescer.add(b"a", 1000)
    flushed(coalescer, 1000)
    coalescer.add(b"b", 1010)

    coalescer.set_delay(delay, 1015)

    assert coalescer.deadline == deadline
    coalescer.add(b"c", 1016)
    flushed(coalescer, 1016)
    coalescer.add(b"d", 1017)
    assert coalescer.deadline == 1017 + delay


def test_a_changed_delay_makes_nothing_due_where_nothing_waits() -> None:
    """Changing the delay of an empty buffer sets no deadline."""
    coalescer = Coalescer(DELAY, LARGE)

    coalescer.set_delay(0, 1000)

    assert (coalescer.waiting, coalescer.deadline) == (False, inf)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3 * DELAY), min_size=1, max_size=60))
def test_whoever_writes_when_told_to_keeps_every_promise_of_time(gaps: list[int]) -> None:
    """Nothing waits longer than the delay, the first chunk and one after a silence not at all, and
    a batch that did wait waited for the whole of it."""
    coalescer = Coalescer(DELAY, LARGE)
    arrivals = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    waited: dict[int, float] = {}
    waiting: list[int] = []

    def flush(now: float) -> None:
        assert len(flushed(coalescer, now)) == len(waiting)
        assert now - arrivals[waiting[0]] in (0, DELAY)
        waited.update((n, now - arrivals[n]) for n in waiting)
        waiting.clear()

    for n, now in enumerate(arrivals):
        if coalescer.deadline <= now:
            flush(coalescer.deadline)
        waiting.append(n)
        if coalescer.add(b"x", now):
            flush(now)
    if waiting:
        flush(coalescer.deadline)

    assert max(waited.values()) <= DELAY
    assert coalescer.longest_delay == max(waited.values())
    after_a_silence = [n for n, (a, b) in enumerate(pairwise(arrivals), 1) if b - a >= DELAY]
    assert [waited[n] for n in (0, *after_a_silence)] == [0] * (1 + len(after_a_silence))


# What is in it.


class Buffering(RuleBasedStateMachine):
    """A writer that does what writers do, in any order, against a list of what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.coalescer = Coalescer(DELAY, 64)
        self.now = 1000
        self.came: list[bytes] = []
        self.waiting = b""
        self.writing: bytes | None = None
        self.delivered = b""
        self.given_up = 0

    @rule(chunk=st.binary(max_size=40), gap=st.integers(0, 2 * DELAY))
    def add(self, chunk: bytes, gap: int) -> None:
        self.now += gap
        due = self.coalescer.add(chunk, self.now)
        self.came.append(chunk)
        self.waiting += chunk
        assert due is (self.now >= self.coalescer.deadline or len(self.waiting) >= 64)

    @precondition(lambda self: self.coalescer.waiting and self.writing is None)
    @rule()
    def take(self) -> None:
        self.writing = self.coalescer.take(self.now)
        assert self.writing == self.waiting
        self.waiting = b""

    @precondition(lambda self: self.writing is not None)
    @rule()
    def deliver(self) -> None:
        assert self.writing is not None
        self.coalescer.sent()
        self.delivered += self.writing
        self.writing = None

    @precondition(lambda self: self.writing is not None)
    @rule()
    def fail(self) -> None:
        assert self.writing is not None
        self.coalescer.send_failed()
        self.given_up += len(self.writing)
        self.writing = None

    @rule()
    def drop(self) -> None:
        self.coalescer.drop()
        self.given_up += len(self.waiting + (self.writing or b""))
        self.waiting, self.writing = b"", None

    @invariant()
    def bytes_in_are_bytes_out_in_order(self) -> None:
        came = b"".join(self.came)
        if not self.given_up:
            assert self.delivered + (self.writing or b"") + self.waiting == came

    @invariant()
    def every_byte_is_accounted_for(self) -> None:
        writing = len(self.writing or b"")
        coalescer = self.coalescer
        assert (coalescer.size, coalescer.in_flight) == (len(self.waiting), writing)
        assert coalescer.lost == self.given_up
        assert coalescer.bytes_in == sum(map(len, self.came))
        assert coalescer.chunks == len(self.came)
        assert coalescer.undelivered == coalescer.bytes_in - len(self.delivered)

    @invariant()
    def it_is_full_from_the_limit_on(self) -> None:
        buffered = len(self.waiting) + len(self.writing or b"")
        assert self.coalescer.full is (buffered >= 64)

    @invariant()
    def only_a_waiting_batch_has_a_deadline(self) -> None:
        coalescer = self.coalescer
        due = {coalescer.first_arrival, coalescer.first_arrival + DELAY}
        assert coalescer.deadline in (due if coalescer.waiting else {inf})
        assert coalescer.waiting or not self.waiting


Buffering.TestCase.settings = settings(deadline=None, max_examples=40, stateful_step_count=40)
TestBuffering = Buffering.TestCase


def test_a_batch_of_one_chunk_is_that_chunk() -> None:
    """A chunk that goes out by itself is not copied."""
    coalescer, chunk = Coalescer(DELAY, LARGE), bytes(1000)
    coalescer.add(chunk, 1000)

    assert coalescer.take(1000) is chunk


def test_what_a_write_holds_counts_against_the_limit() -> None:
    """The buffer is full when what waits and what is being written come to `max_batch_bytes`."""
    coalescer = Coalescer(DELAY, 100)
    coalescer.add(bytes(60), 1000)
    coalescer.take(1000)
    assert not coalescer.full

    coalescer.add(bytes(40), 1001)
    assert coalescer.full

    coalescer.sent()
    assert not coalescer.full


def test_a_write_that_fails_is_not_made_again() -> None:
    """What a failed write held is counted as lost and never comes back: half of it may be sent.
    Pitfall 39."""
    coalescer = Coalescer(DELAY, LARGE)
    coalescer.add(b"lost", 1000)
    coalescer.take(1000)
    coalescer.send_failed()

    coalescer.add(b"next", 1100)

    assert coalescer.take(1100) == b"next"
    assert (coalescer.lost, coalescer.undelivered, coalescer.bytes_in) == (4, 8, 8)


def test_a_write_that_ends_after_the_drop_is_not_counted_twice() -> None:
    """A write that was given up already, and then fails, is lost once."""
    coalescer = Coalescer(DELAY, LARGE)
    coalescer.add(b"abc", 1000)
    coalescer.take(1000)
    coalescer.drop()

    coalescer.send_failed()

    assert (coalescer.lost, coalescer.undelivered) == (3, 3)


def test_the_longest_delay_is_that_of_the_byte_that_waited_longest() -> None:
    """The delay of a batch is counted from its first chunk, and the longest is kept."""
    coalescer = Coalescer(DELAY, LARGE)
    for arrivals, taken in (((1000,), 1001), ((1010, 1040), 1052), ((1100,), 1105)):
        for now in arrivals:
            coalescer.add(b"x", now)
        flushed(coalescer, taken)

    assert coalescer.longest_delay == 42


def test_the_beginning_of_the_stream_is_its_first_chunk() -> None:
    """`stream_began` is when the first chunk came, and stays so."""
    coalescer = Coalescer(DELAY, LARGE)
    assert coalescer.stream_began is None

    for now in (1003, 1200):
        coalescer.add(b"x", now)
        flushed(coalescer, now)

    assert coalescer.stream_began == 1003
