"""Limits of merging: the size of merged events, and events that are not complete."""

from __future__ import annotations

import pytest

from sse_batching import formats
from sse_batching._merging import Merger
from sse_batching._merging._merger import Mode
from sse_batching._merging._template import MAY_WAIT
from tests.merging.merged import feed, is_unchanged, merged, sse

FORMAT = formats.DeltaFormat(join=("list",))


def delta(text: str, *before: str, **more: object) -> bytes:
    return sse({"delta": text, **more}, *before)


def merger_after_first_event(*, max_batch_bytes: int = 65_536) -> Merger:
    """Return a merger that knows the format, and whose first event has been taken."""
    merger = Merger([FORMAT], max_batch_bytes=max_batch_bytes)
    feed(merger, [delta("opener")])
    return merger


# Sizes.


def test_a_merged_event_has_at_most_so_many_bytes() -> None:
    """A longer run becomes several events, each as large as the limit allows. Pitfall 44."""
    limit = len(delta("abcd"))
    found = merged(FORMAT, *(delta(text) for text in "abcdefghij"), max_merged_bytes=limit)
    sizes = [len(event) + 2 for event in found.split(b"\n\n")[:-1]]
    assert max(sizes) <= limit
    assert len(sizes) < 10
    assert b"".join(part[len(b'data: {"delta":"') : -2] for part in found.split(b"\n\n")) == (
        b"abcdefghij"
    )


def test_joined_arrays_count_too() -> None:
    """The limit applies to the whole event, not only to its text."""
    events = [delta("a", list=[number] * 20) for number in range(10)]
    found = merged(FORMAT, *events, max_merged_bytes=3 * len(events[0]))
    assert len(found.split(b"\n\n")) > 3
    assert max(map(len, found.split(b"\n\n"))) < 3 * len(events[0])


def test_an_event_that_is_larger_by_itself_passes() -> None:
    """A single event above `max_merged_bytes` passes through unchanged."""
    assert is_unchanged(FORMAT, delta("a"), delta("b" * 100), delta("c"), max_merged_bytes=50)


def test_an_event_that_is_too_large_to_be_held_ends_the_merging() -> None:
    """An event above `max_batch_bytes` passes through in pieces, and so does all that follows."""
    merger = merger_after_first_event(max_batch_bytes=100)
    chunks = [delta("a"), delta("b"), b'data: {"delta":"' + b"c" * 90, b"d", b'"}\n\n', delta("e")]
    for chunk in chunks:
        merger.add(chunk)
    assert (merger.mode, merger.held) == (Mode.PASSTHROUGH, 0)
    assert merger.take() == delta("ab") + b"".join(chunks[2:])


# Incomplete events.


def test_an_event_that_is_not_complete_is_held() -> None:
    """Nothing of an incomplete event is ready. Once complete, it is merged like any other event."""
    merger = merger_after_first_event()
    merger.add(delta("a")[:-1])
    assert (merger.take(), merger.held) == (b"", len(delta("a")) - 1)
    merger.add(b"\n" + delta("b"))
    assert merger.held == 0
    assert merger.take() == delta("ab")


def test_what_is_held_can_be_released() -> None:
    """The released bytes come unchanged behind the complete events."""
    merger = merger_after_first_event()
    merger.add(delta("a") + delta("b") + b"data: hal")
    merger.release()
    assert merger.held == 0
    assert merger.take() == delta("ab") + b"data: hal"


TORN = sse("torn", "event: token", "id: 7")


@pytest.mark.parametrize("cut", range(1, len(TORN)))
def test_the_rest_of_a_released_event_is_not_merged_with_others(cut: int) -> None:
    """The rest passes through, because it would mean something else without its beginning."""
    chunks = [TORN[:cut], TORN[cut:], sse("next"), sse("last", "id: 8")]
    merger = Merger([formats.PlainText()])
    feed(merger, [sse("opener"), sse("known")])
    merger.add(chunks[0])
    merger.release()
    assert feed(merger, chunks[1:]) == b"".join(chunks)


@pytest.mark.parametrize("cut", range(1, len(delta("b", "event: token"))))
def test_the_rest_of_a_released_json_event_is_not_merged_with_others(cut: int) -> None:
    """The rest of a JSON event passes through, too."""
    event = delta("b", "event: token")
    merger = merger_after_first_event()
    feed(merger, [delta("known")])
    merger.add(event[:cut])
    merger.release()
    assert feed(merger, [event[cut:], delta("c")]) == event + delta("c")


def test_nothing_is_ready_when_all_was_taken() -> None:
    """`take` returns nothing if nothing was added since the last `take`."""
    merger = merger_after_first_event()
    assert merger.take() == b""
    merger.add(delta("a"))
    assert merger.take() == delta("a")
    assert merger.take() == b""


def test_after_stop_all_passes() -> None:
    """`stop` ends the run and releases held bytes. Later chunks pass through and are not urgent."""
    merger = merger_after_first_event()
    merger.add(delta("a") + delta("b") + b"data: ")
    merger.stop()
    rest = [b"half\n\n", delta("c"), delta("d")]
    assert [merger.add(chunk) for chunk in rest] == [MAY_WAIT] * 3
    assert merger.take() == delta("ab") + b"data: " + b"".join(rest)


def test_after_stop_nothing_is_merged_though_its_template_was_known() -> None:
    """`stop` forgets the templates, also if nothing is held."""
    merger = merger_after_first_event()
    feed(merger, [delta("a"), delta("b")])
    merger.stop()
    assert feed(merger, [delta("c"), delta("d")]) == delta("c") + delta("d")


def test_without_a_format_nothing_is_merged() -> None:
    """A merger without formats, which only looks for `flush_on`, returns all bytes unchanged."""
    merger = Merger([], flush_on=("x",))
    assert feed(merger, [delta("a")] * 5) == delta("a") * 5
