"""When the batch of a `Buffer` is due, and when its writer is called."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from typing import Final

import pytest
from hypothesis import given, settings, strategies as st

from sse_batching._buffer import Buffer

DELAY: Final = 50
"""Times in these tests are whole numbers of milliseconds, so that no rounding blurs a deadline."""

LARGE: Final = 1_000_000


def add(buffer: Buffer, chunk: bytes, now: float) -> bool:
    """Add a chunk on the slow path. Return True if the batch is then due."""
    buffer.add(chunk, now)
    return buffer.deadline <= now


def flush(buffer: Buffer, now: float) -> bytes:
    """Take the waiting batch, and deliver it in the same moment."""
    batch = buffer.take(now)
    buffer.sent()
    return batch


def buffer_in_a_burst(began: float = 1000) -> Buffer:
    """Return a buffer whose first chunk came at `began` and went out at once."""
    buffer = Buffer(DELAY, LARGE)
    buffer.add(b"first", began)
    flush(buffer, began)
    return buffer


# When a batch is due.


def test_the_first_chunk_is_due_at_once() -> None:
    """The first chunk of a stream does not wait for more chunks."""
    buffer = Buffer(DELAY, LARGE)

    assert add(buffer, b"a", 1000)
    assert buffer.deadline == 1000


@pytest.mark.parametrize(
    ("pause", "wait"),
    [
        pytest.param(0, 0, id="in-the-same-moment"),
        pytest.param(1, 1, id="soon"),
        pytest.param(5, 5, id="after-a-tenth-of-the-delay"),
        pytest.param(DELAY - 1, DELAY - 1, id="just-before-a-quiet-delay"),
        pytest.param(DELAY, 0, id="after-a-quiet-delay"),
        pytest.param(100 * DELAY, 0, id="after-a-long-silence"),
    ],
)
def test_the_second_chunk_waits_as_long_as_the_burst_is_old(pause: int, wait: int) -> None:
    """A chunk waits no longer than its burst is old, and not at all if it begins a burst."""
    buffer = buffer_in_a_burst(1000)

    due = add(buffer, b"b", 1000 + pause)

    assert buffer.deadline == 1000 + pause + wait
    assert due is (wait == 0)


def test_delays_double_up_to_the_delay() -> None:
    """In a steady stream each batch waits twice as long as the one before, up to `max_delay`."""
    buffer = buffer_in_a_burst(1000)
    now, waits = 1003.0, []
    for _ in range(6):
        add(buffer, b"x", now)
        waits.append(buffer.deadline - now)
        now = buffer.deadline
        flush(buffer, now)

    assert waits == [3, 6, 12, 24, 48, DELAY]


def test_a_silence_begins_a_new_burst() -> None:
    """After a quiet `max_delay` the delays begin at nothing again."""
    buffer = buffer_in_a_burst(1000)
    add(buffer, b"a", 1040)
    flush(buffer, 1080)

    assert add(buffer, b"begins a burst", 1090)
    flush(buffer, 1090)
    add(buffer, b"b", 1094)

    assert buffer.deadline == 1094 + 4


def test_a_silence_is_counted_from_the_last_chunk_not_from_the_last_write() -> None:
    """A slow write does not make a steady stream look as if it had paused."""
    buffer = Buffer(DELAY, LARGE)
    for now in (1000, 1030):
        buffer.add(b"a", now)
    flush(buffer, 1035)

    assert not add(buffer, b"b", 1060)
    assert buffer.deadline == 1060 + DELAY


def test_a_steady_stream_does_not_push_its_deadline_ahead() -> None:
    """The deadline is that of the batch's first chunk, however many chunks follow."""
    buffer = buffer_in_a_burst(1000)

    due = [add(buffer, b"x", now) for now in range(1010, 1020, 2)]

    assert due == [False] * 5
    assert buffer.deadline == 1010 + 10
    assert add(buffer, b"x", 1020)


def test_an_overdue_batch_stays_due() -> None:
    """A chunk added to a batch that a slow write kept waiting is due, too."""
    buffer = Buffer(DELAY, LARGE)
    buffer.add(b"a", 1000)

    assert add(buffer, b"b", 1500)
    assert buffer.deadline == 1000


def test_without_a_delay_every_chunk_is_due_at_once() -> None:
    """With `max_delay` 0 nothing waits, but chunks that gather during a write go out together."""
    buffer = Buffer(0, LARGE)
    buffer.add(b"a", 1000)
    buffer.take(1000)

    assert [add(buffer, chunk, 1000) for chunk in (b"b", b"c")] == [True, True]
    buffer.sent()
    assert buffer.take(1007) == b"bc"


@pytest.mark.parametrize(
    ("chunks", "due"),
    [([99], [False]), ([100], [True]), ([60, 39], [False, False]), ([60, 40], [False, True])],
)
def test_a_batch_of_the_full_size_is_due_at_once(chunks: list[int], due: list[bool]) -> None:
    """A batch that has reached `max_batch_bytes` does not wait for its deadline."""
    buffer = Buffer(DELAY, 100)
    buffer.add(b"a", 1000)
    flush(buffer, 1000)

    assert [add(buffer, bytes(size), 1001) for size in chunks] == due


def test_nothing_is_due_while_nothing_waits() -> None:
    """An empty buffer has no deadline, before the first chunk and after each flush."""
    buffer = Buffer(DELAY, LARGE)
    assert (buffer.waiting, buffer.deadline) == (False, inf)

    buffer.add(b"a", 1000)
    flush(buffer, 1000)

    assert (buffer.waiting, buffer.deadline) == (False, inf)


def test_an_empty_chunk_waits_like_any_other() -> None:
    """An empty chunk makes a batch: on some servers an empty chunk sends the headers. It does not
    count as a chunk."""
    buffer = Buffer(DELAY, LARGE)
    assert buffer.untouched

    assert add(buffer, b"", 1000)
    assert (buffer.waiting, buffer.size, buffer.chunks) == (True, 0, 0)
    assert (buffer.untouched, buffer.stream_began) == (False, None)
    assert buffer.take(1000) == b""


@pytest.mark.parametrize(
    ("delay", "deadline"),
    [
        pytest.param(5 * DELAY, 1040 + 40, id="longer"),
        pytest.param(20, 1045 + 20, id="shorter"),
        pytest.param(0, 1045, id="none"),
    ],
)
def test_a_changed_delay_holds_for_what_waits_only_if_it_is_shorter(
    delay: int, deadline: int
) -> None:
    """A changed delay never postpones the waiting batch. Batches after it get the new delay."""
    buffer = buffer_in_a_burst(1000)
    buffer.add(b"b", 1040)

    buffer.set_max_delay(delay, 1045)

    assert buffer.deadline == deadline
    buffer.add(b"c", 1046)
    flush(buffer, 1046)
    buffer.add(b"d", 1047)
    assert buffer.deadline == 1047 + min(delay, 47)


def test_a_changed_delay_makes_nothing_due_where_nothing_waits() -> None:
    """Changing the delay of an empty buffer sets no deadline."""
    buffer = Buffer(DELAY, LARGE)

    buffer.set_max_delay(0, 1000)

    assert (buffer.waiting, buffer.deadline) == (False, inf)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3 * DELAY), min_size=1, max_size=60))
def test_a_writer_that_writes_at_the_deadlines_keeps_every_promise_of_time(gaps: list[int]) -> None:
    """No chunk waits longer than the delay, nor longer than its burst is old. A batch that waits
    is written at its deadline, not earlier."""
    buffer = Buffer(DELAY, LARGE)
    arrivals = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    burst_began: dict[int, int] = {}
    for n, now in enumerate(arrivals):
        begins = n == 0 or now - arrivals[n - 1] >= DELAY
        burst_began[n] = now if begins else burst_began[n - 1]
    waited: dict[int, float] = {}
    waiting: list[int] = []

    def write(now: float) -> None:
        assert len(flush(buffer, now)) == len(waiting)
        first = waiting[0]
        burst_age = arrivals[first] - burst_began[first]
        assert now - arrivals[first] == min(DELAY, burst_age)
        waited.update((n, now - arrivals[n]) for n in waiting)
        waiting.clear()

    for n, now in enumerate(arrivals):
        if buffer.deadline <= now:
            write(buffer.deadline)
        waiting.append(n)
        if add(buffer, b"x", now):
            write(now)
    if waiting:
        write(buffer.deadline)

    assert max(waited.values()) <= DELAY
    assert buffer.longest_delay == max(waited.values())
    begin_a_burst = [n for n, (a, b) in enumerate(pairwise(arrivals), 1) if b - a >= DELAY]
    assert [waited[n] for n in (0, *begin_a_burst)] == [0] * (1 + len(begin_a_burst))


# When the writer is called.


def test_the_writer_is_scheduled_once_for_each_batch() -> None:
    """`schedule` is called when a batch begins, not for each chunk that joins the batch."""
    buffer, calls = Buffer(DELAY, LARGE), list[float]()
    buffer.schedule = calls.append

    for now in (1000, 1010, 1015):
        buffer.add(b"x", now)
    flush(buffer, 1015)
    buffer.add(b"x", 1020)

    assert calls == [1000, 1020]


def test_the_writer_is_scheduled_again_when_the_batch_is_full() -> None:
    """A batch that fills up is due before the deadline for which the writer was scheduled."""
    buffer, calls = Buffer(DELAY, 100), list[float]()
    buffer.add(b"x", 1000)
    flush(buffer, 1000)
    buffer.schedule = calls.append

    buffer.add(bytes(60), 1040)
    buffer.add(bytes(60), 1045)

    assert calls == [1040, 1045]
