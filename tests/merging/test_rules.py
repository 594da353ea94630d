"""Rules of all formats: which events are merged, what the merged event is, what must not wait."""

from __future__ import annotations

import json

import pytest

from sse_batching import formats
from sse_batching._merging import Merger
from sse_batching._merging._merger import (
    GIVE_UP_AFTER_UNKNOWN,
    GIVE_UP_AFTER_UNMERGED,
    Mode,
)
from sse_batching._merging._template import AT_ONCE, HURRY, MAY_WAIT
from tests.merging.merged import feed, is_unchanged, merged, sse

FORMAT = formats.DeltaFormat(last=("n",), join=("list",))


def delta(text: str, *before: str, **more: object) -> bytes:
    return sse({"delta": text, **more}, *before)


def merger_after_first_event(*, flush_on: tuple[str, ...] = ()) -> Merger:
    """Return a merger that knows the format, and whose first event has been taken."""
    merger = Merger([FORMAT], flush_on=flush_on)
    feed(merger, [delta("opener")])
    return merger


# The merged event.


def test_adjacent_deltas_become_one_event() -> None:
    """The texts of any number of adjacent deltas are joined in order."""
    assert merged(FORMAT, *(delta(f" {n}") for n in range(100))) == delta(
        "".join(f" {n}" for n in range(100))
    )


def test_the_merged_event_is_the_last_with_the_text_of_all() -> None:
    """Values that may differ, such as a number, a time or an id, are those of the last event."""
    first, last = delta("a", "id: 1", n=1), delta("b", "id: 2", n=2)
    assert merged(FORMAT, first, last) == delta("ab", "id: 2", n=2)


def test_the_first_event_is_never_merged() -> None:
    """The first event goes out at once and unchanged. Readers wait for it, and some clients take
    fields from the first event only."""
    merger = Merger([FORMAT])
    assert merger.add(delta("a"))
    assert feed(merger, [delta("b"), delta("c")]) == delta("a") + delta("bc")


def test_a_comment_is_no_first_event() -> None:
    """The first event with data passes through, also behind a comment."""
    merger = Merger([FORMAT])
    assert feed(merger, [b": hello\n\n", delta("a"), delta("b"), delta("c")]) == (
        b": hello\n\n" + delta("a") + delta("bc")
    )


def test_what_has_been_taken_is_not_merged_with_what_comes() -> None:
    """Taking a batch ends its run."""
    merger = merger_after_first_event()
    assert [feed(merger, [delta("a"), delta("b")]), feed(merger, [delta("c")])] == [
        delta("ab"),
        delta("c"),
    ]


def test_only_adjacent_events_are_merged() -> None:
    """Deltas of several keys that alternate keep their order and their bytes."""
    events = [delta("abcdef"[n], key=n % 2) for n in range(6)]
    assert is_unchanged(FORMAT, *events)


def test_deltas_of_several_keys_are_merged_with_their_neighbours() -> None:
    """Each time the key changes deltas are merged again, also if the new key is known already."""
    runs = [delta("a", key=1), delta("b", key=1), delta("c", key=2), delta("d", key=2)]
    joined = delta("ab", key=1) + delta("cd", key=2)
    assert merged(FORMAT, *runs, *runs) == joined + joined


def test_more_keys_than_are_remembered_are_merged() -> None:
    """An event whose template is not kept any more is parsed again."""
    runs = [delta(text, key=key) for key in range(10) for text in "ab"]
    joined = b"".join(delta("ab", key=key) for key in range(10))
    assert merged(FORMAT, *runs, *runs) == joined + joined


@pytest.mark.parametrize(
    ("first", "last"),
    [
        pytest.param(delta("a", new=1), delta("b", new=2), id="another-value"),
        pytest.param(delta("a"), delta("b", new=1), id="a-new-member"),
        pytest.param(delta("a", new=None), delta("b"), id="a-missing-member"),
        pytest.param(delta("a", new=1), delta("b", new=True), id="another-kind-of-value"),
        pytest.param(delta("a", n=1), delta("b"), id="a-missing-last-value"),
        pytest.param(delta("a"), delta("b", n=1), id="a-new-last-value"),
        pytest.param(delta("a", n=1), delta("b", n="1"), id="a-last-value-of-another-kind"),
        pytest.param(delta("a", n=1), delta("b", n=None), id="a-last-value-that-becomes-null"),
        pytest.param(delta("a", list=[]), delta("b"), id="a-missing-array"),
        pytest.param(delta("a", list=None), delta("b", list=[1]), id="null-and-an-array"),
        pytest.param(delta("a", list=[1]), delta("b", list=None), id="an-array-and-null"),
        pytest.param(sse('{"delta":"a"}'), sse('{"delta": "b"}'), id="another-way-of-writing-it"),
        pytest.param(sse('{"n":1,"delta":"a"}'), delta("b", n=1), id="another-order"),
        pytest.param(delta("a"), b'data:{"delta":"b"}\n\n', id="no-space-after-the-colon"),
        pytest.param(delta("a"), sse({"delta": "b"}, end="\r\n"), id="other-line-ends"),
        pytest.param(delta("a", "id: 1"), delta("b"), id="a-missing-id"),
        pytest.param(delta("a"), delta("b", "id: 1"), id="a-new-id"),
    ],
)
def test_whatever_else_differs_forbids(first: bytes, last: bytes) -> None:
    """A difference that the format does not allow forbids merging, so that it is never lost."""
    assert is_unchanged(FORMAT, first, last)


@pytest.mark.parametrize(
    ("first", "last"), [("a", "b"), ("a", "message"), ("message", "a"), ("a", "a ")]
)
def test_another_name_forbids(first: str, last: str) -> None:
    """Events with different names are not merged: clients have a listener for each name."""
    events = [delta("a", f"event: {first}"), delta("b", f"event: {last}")]
    for name in (first, last):
        assert is_unchanged(formats.DeltaFormat(event=name), *events)


def test_a_name_that_is_missing_is_another_name() -> None:
    """An event with a name is not merged with an event without one, in either order."""
    named = formats.DeltaFormat(event="token")
    assert is_unchanged(named, delta("a", "event: token"), delta("b"))
    assert is_unchanged(named, delta("a"), delta("b", "event: token"))


def test_the_order_of_the_fields_stays() -> None:
    """The `event` field keeps its place. Events with different orders are not merged."""
    format = formats.DeltaFormat(event="token")
    behind = [b'data: {"delta":"%b"}\nevent: token\n\n' % text for text in (b"a", b"b", b"ab")]
    assert merged(format, *behind[:2]) == behind[2]
    assert is_unchanged(format, behind[0], delta("b", "event: token"))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
def test_line_ends_stay_as_they_are(end: str) -> None:
    """A merged event has the line ends of its events, because some clients know only one kind."""
    a, b, ab = (sse({"delta": text}, end=end) for text in ("a", "b", "ab"))
    assert merged(FORMAT, a, b) == ab


@pytest.mark.parametrize("spaces", [(0, 0), (0, 15), (15, 0), (3, 4)])
def test_spaces_before_the_last_brace_do_not_count(spaces: tuple[int, int]) -> None:
    """Events with other padding are merged. The merged event is padded as the last one is."""
    first, last, joined = (
        sse(f'{{"delta":"{text}"{" " * count}}}')
        for text, count in zip(("a", "b", "ab"), (*spaces, spaces[1]), strict=True)
    )
    assert merged(FORMAT, first, last) == joined


def test_arrays_are_joined_as_the_text_is() -> None:
    """The elements of arrays are joined in order, and some arrays may be empty."""
    events = [delta("abcde"[n], list=value) for n, value in enumerate([[], [1], [], [2, [3]], []])]
    assert merged(FORMAT, *events) == delta("abcde", list=[1, 2, [3]])


def test_a_member_that_comes_twice_is_merged_where_it_counts() -> None:
    """Of two members with the same name the second one is the delta, as for JSON parsers."""
    first, last, joined = (sse(f'{{"delta":"x","delta":"{text}"}}') for text in ("a", "b", "ab"))
    assert merged(FORMAT, first, last) == joined
    assert is_unchanged(FORMAT, sse('{"delta":"x","delta":"a"}'), sse('{"delta":"y","delta":"b"}'))


# What comes between two deltas.


@pytest.mark.parametrize(
    "barrier",
    [
        pytest.param(b": a comment\n\n", id="comment"),
        pytest.param(b":\n\n", id="empty-comment"),
        pytest.param(b"retry: 5\n\n", id="retry"),
        pytest.param(b"id: 7\n\n", id="id-alone"),
        pytest.param(b"event: x\n\n", id="name-alone"),
        pytest.param(b"data: [DONE]\n\n", id="done"),
        pytest.param(b"data\n\n", id="empty-data"),
        pytest.param(b'data: {"other":1}\n\n', id="another-event"),
        pytest.param(b'data: {"delta":1}\n\n', id="a-delta-that-is-no-text"),
        pytest.param(b'data: {"delta":null}\n\n', id="a-delta-that-is-null"),
        pytest.param(b'data: {"delta":\ndata: "x"}\n\n', id="several-lines-of-data"),
        pytest.param(b'data: {"delta":"x"}\ndata: x\n\n', id="a-delta-and-an-extra-line"),
        pytest.param(b': comment\ndata: {"delta":"x"}\n\n', id="a-comment-in-the-event"),
        pytest.param(b'retry: 5\ndata: {"delta":"x"}\n\n', id="retry-in-the-event"),
        pytest.param(b'new: 5\ndata: {"delta":"x"}\n\n', id="an-unknown-field"),
        pytest.param(b'id: 1\nid: 2\ndata: {"delta":"x"}\n\n', id="two-ids"),
    ],
)
def test_what_is_no_plain_delta_stands_between_two(barrier: bytes) -> None:
    """Any other block keeps its place and its bytes, and is not merged with a block like it.

    It asks to hurry: pending deltas go out with it.
    """
    assert is_unchanged(FORMAT, delta("a"), barrier, delta("b"), barrier, barrier, delta("c"))
    merger = merger_after_first_event()
    assert [merger.add(delta("a")), merger.add(barrier)] == [MAY_WAIT, HURRY]
    assert merger.take() == delta("a") + barrier


def test_text_that_is_not_merged_may_wait_as_any_chunk() -> None:
    """Text that may not be merged waits like any chunk: a reader does not wait for it."""
    merger = Merger([formats.openai_chat])
    chunk = '{"object":"chat.completion.chunk","choices":[{"delta":{"role":"x","content":"a"}}]}'
    assert [merger.add(sse(chunk)) for _ in range(3)] == [HURRY, MAY_WAIT, MAY_WAIT]
    assert merger.take() == sse(chunk) * 3


def test_in_an_unknown_stream_nothing_is_urgent_but_the_first_event() -> None:
    """A stream of no known format is batched as without merging."""
    merger = Merger([formats.openai_chat])
    chunks = [sse("1"), sse("2"), b": comment\n\n", delta("x")]
    assert [merger.add(chunk) for chunk in chunks] == [HURRY, MAY_WAIT, MAY_WAIT, MAY_WAIT]


def test_an_unknown_stream_is_given_up_after_some_events() -> None:
    """After `GIVE_UP_AFTER_UNKNOWN` events chunks pass through, and half an event is not held."""
    merger = Merger([formats.openai_chat])
    events = [sse(str(number)) for number in range(GIVE_UP_AFTER_UNKNOWN)]
    for event in events[:-1]:
        merger.add(event)
    assert merger.mode is Mode.DETECTING
    merger.add(events[-1] + b"data: h")
    assert (merger.mode, merger.held) == (Mode.PASSTHROUGH, 0)
    merger.add(b"alf\n")
    assert merger.take() == b"".join(events) + b"data: half\n"


def test_a_stream_that_is_given_up_is_still_looked_at_for_what_must_not_wait() -> None:
    """With `flush_on`, events are read after the merger has given up."""
    merger = Merger([formats.openai_chat], flush_on=("now",))
    feed(merger, [sse(str(number)) for number in range(GIVE_UP_AFTER_UNKNOWN)])
    assert merger.mode is Mode.WATCHING
    found = [merger.add(sse("1")), merger.add(sse("1", "event: now"))]
    assert found == [MAY_WAIT, AT_ONCE]


def test_a_stream_whose_deltas_are_never_alike_is_given_up() -> None:
    """After `GIVE_UP_AFTER_UNMERGED` deltas with different templates chunks pass through."""
    merger = Merger([FORMAT])
    events = [delta("a", key=number) for number in range(GIVE_UP_AFTER_UNMERGED + 1)]
    assert feed(merger, events[:-1]) == b"".join(events[:-1])
    before = merger.mode
    assert feed(merger, events[-1:]) == events[-1]
    assert (before, merger.mode) == (Mode.MERGING, Mode.PASSTHROUGH)


def test_a_format_of_ones_own_is_never_given_up() -> None:
    """A `DeltaFormat` is looked for in the whole stream: its deltas may come late."""
    assert merged(FORMAT, *[sse("x")] * 50, delta("a"), delta("b")).endswith(delta("ab"))


def test_the_format_that_is_seen_first_is_that_of_the_stream() -> None:
    """Events of another exclusive format pass through unchanged."""
    chat = '{"object":"chat.completion.chunk","choices":[{"delta":{"content":"a"}}]}'
    merger = Merger(formats.auto)
    feed(merger, [sse({"type": "RUN_STARTED"})])
    assert feed(merger, [sse(chat)] * 2) == sse(chat) * 2


# Events that must not wait.


def test_an_event_can_be_urgent_by_its_name_or_its_type() -> None:
    """`flush_on` names events by their `event` field, or by the member `type` of their data."""
    for event in (sse("x", "event: now"), sse({"type": "now"}), delta("x", type="now")):
        assert Merger([FORMAT], flush_on=("now",)).add(event) is AT_ONCE
        merger = Merger([], flush_on=("now",))
        assert [merger.add(sse("x")), merger.add(event)] == [HURRY, AT_ONCE]


def test_a_delta_can_be_urgent_and_is_still_merged() -> None:
    """An urgent delta takes along what is pending, merged if both have the same template. The next
    one with this template is urgent as well, although it is not parsed."""
    merger = merger_after_first_event(flush_on=("now",))
    for _ in range(3):
        assert merger.add(delta("a", type="later")) is MAY_WAIT
        assert merger.add(delta("b", type="now")) is AT_ONCE
        assert merger.add(delta("c", type="now")) is AT_ONCE
        assert merger.take() == delta("a", type="later") + delta("bc", type="now")


@pytest.mark.parametrize("escaped", [False, True])
def test_an_urgent_type_may_be_of_any_language(escaped: bool) -> None:
    """`flush_on` finds a type outside ASCII, escaped in the JSON or not."""
    merger = Merger([], flush_on=("größer",))
    feed(merger, [sse("opener")])
    event = sse(json.dumps({"type": "größer"}, ensure_ascii=escaped))
    assert merger.add(event) is AT_ONCE


def test_the_type_of_an_urgent_event_may_be_one_that_differs() -> None:
    """An event with another type has another template, so it is parsed."""
    merger = Merger([formats.DeltaFormat()], flush_on=("now",))
    feed(merger, [delta("opener", type="x")])
    found = [merger.add(delta("a", type=kind)) for kind in ("x", "x", "now", "x")]
    assert found == [MAY_WAIT, MAY_WAIT, AT_ONCE, MAY_WAIT]
