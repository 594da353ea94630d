"""Broken, huge and odd events pass through: nothing is lost, and no exception is raised."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import pytest
from hypothesis import given, settings, strategies as st

from sse_batching import formats
from sse_batching._merging import Format, Merger
from tests.merging.kinds import KINDS, Kind
from tests.merging.merged import feed, is_unchanged, merged, sse

FORMAT = formats.DeltaFormat(last=("n",), join=("list",))
CHOICES: Mapping[str, list[Format]] = {
    "none": [],
    "own": [FORMAT],
    "text": [formats.PlainText()],
    "auto": [*formats.auto],
    "all": [*formats.auto, FORMAT, formats.PlainText()],
}


def delta(body: bytes, more: bytes = b"") -> bytes:
    """Return a delta event with this as the body of its string."""
    return b'data: {"delta":"%b"%b}\n\n' % (body, more)


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(b'data: {"delta":"a"\n\n', id="no-brace"),
        pytest.param(b'data: {"delta":"a"}}\n\n', id="an-extra-brace"),
        pytest.param(b'data: {"delta":"a",}\n\n', id="an-extra-comma"),
        pytest.param(b"data: {'delta':'a'}\n\n", id="other-quotes"),
        pytest.param(b'data: {"delta":"a"} {"delta":"a"}\n\n', id="two-objects"),
        pytest.param(b'data: {"delta":"\t"}\n\n', id="a-raw-tab"),
        pytest.param(b'data: {"delta":"\x00"}\n\n', id="a-raw-nul"),
        pytest.param(b'data: {"delta":"\\x41"}\n\n', id="an-invalid-escape"),
        pytest.param(b'data: {"delta":"\\u00g0"}\n\n', id="a-broken-escape"),
        pytest.param(b'data: {"delta":"\\"}\n\n', id="an-escaped-quote"),
        pytest.param(b'data: {"delta":"a","n":01}\n\n', id="an-invalid-number"),
        pytest.param(b'data: {"delta":"a","n":1.}\n\n', id="an-incomplete-number"),
        pytest.param(b'data: {"delta":"a","n":}\n\n', id="a-missing-value"),
        pytest.param(b'data: {"delta":"a","list":[1}\n\n', id="a-missing-bracket"),
        pytest.param(b'data: \xef\xbb\xbf{"delta":"a"}\n\n', id="a-byte-order-mark-in-the-data"),
        pytest.param(b'data: {"delta":"a","x":%b}\n\n' % (b"9" * 5000), id="a-huge-number"),
        pytest.param(
            b'data: {"delta":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n\n", id="too-deep"
        ),
        pytest.param(b"data: " + b"[" * 100_000 + b"\n\n", id="too-deep-and-cut"),
        pytest.param(b'data: {"type":[],"x":1}\n\n', id="a-type-that-is-a-list"),
        pytest.param(b'data: {"type":{"a":{}}}\n\n', id="a-type-that-is-an-object"),
        pytest.param(b'data: {"object":[],"choices":{}}\n\n', id="an-object-that-is-a-list"),
        pytest.param(b'data: {"candidates":null}\n\n', id="candidates-that-are-null"),
    ],
)
def test_what_is_no_good_passes(event: bytes) -> None:
    """A broken event passes through unchanged and in its place, with any format."""
    good = delta(b"a")
    assert is_unchanged(FORMAT, good, event, event, good, max_batch_bytes=10**6)
    for before in ([], [sse("x")], [sse({"type": "RUN_STARTED"})]):
        merger = Merger(formats.auto, flush_on=("x",), max_batch_bytes=10**6)
        assert feed(merger, [*before, event, event]) == b"".join([*before, event, event])


@pytest.mark.parametrize(
    "more",
    [
        b',"n":01',
        b',"n":1.',
        b',"n":.1',
        b',"n":+1',
        b',"n":1e',
        b',"n":',
        b',"n":--1',
        b',"n":0x1',
        b',"n":1,"x":2',
        b',"n":1 2',
        b',"n":1}',
        b',"n":"1',
        b',"n":"a"b"',
        b',"n":"\\x41"',
        b',"list":[,]',
        b',"list":[',
        b',"list":]',
        b',"list":[[]',
        b',"list":[1,]',
    ],
)
def test_what_is_no_good_passes_though_the_like_of_it_is_known(more: bytes) -> None:
    """An event that fits a template is not parsed, so each of its parts has to be checked."""
    good = b""
    for known in (b',"n":1', b',"n":"1"', b',"n":{}', b',"list":[]'):
        pair = delta(b"a", known) + delta(b"b", known)
        good = delta(b"ab", known)
        assert merged(FORMAT, pair, delta(b"c", more), pair) == good + delta(b"c", more) + good


@pytest.mark.parametrize("name", [b"te\\u0078t", b"\\u0074ext"])
def test_a_name_may_be_written_with_escapes(name: bytes) -> None:
    """An escaped name does not lead to another member that has this name."""
    format = formats.DeltaFormat(delta="d.text")
    event = b'data: {"x":{"text":1},"d":{"%b":"%b"}}\n\n'
    once, twice = event % (name, b"a"), event % (name, b"aa")
    assert merged(format, once, once) in {twice, once + once}


@pytest.mark.parametrize("depth", [*range(100, 1200, 25), 5_000, 50_000])
def test_no_depth_raises(depth: int) -> None:
    """Deeply nested events are merged or pass through, wherever the parser's limit is."""
    event = delta(b"a", b',"x":' + b"[" * depth + b"]" * depth)
    found = merged(FORMAT, event, event, max_batch_bytes=10**6, max_merged_bytes=10**6)
    assert found in {event + event, event.replace(b'"a"', b'"aa"')}


@pytest.mark.parametrize(
    ("first", "last"),
    [
        pytest.param(b"\\uD83D", b"x", id="half-a-pair-at-the-end"),
        pytest.param(b"x", b"x\\ude00", id="half-a-pair-amid-the-text"),
        pytest.param(b"\\ud83d\\ude00", b"\\uD83D\\uDE00", id="whole-pairs"),
        pytest.param(b"x", b"\\\\ude00", id="a-backslash-and-letters"),
        pytest.param(b"x\xff", b"\xfe", id="bytes-of-no-character"),
        pytest.param(b"x\xe2\x80\xa8", b"\xe2\x80\xa9\xc2\x85", id="line-ends-of-unicode-only"),
        pytest.param(b"x\\u2028", b"\\u2029", id="the-same-escaped"),
        pytest.param(b"\\u0041\\/\\\\", b'\\"\\n\\b\\f\\r\\t', id="escapes"),
        pytest.param(b"\\\\", b"n", id="a-backslash-and-an-n"),
        pytest.param(b"x\x7f", b"\xc2\xa0", id="delete-and-a-hard-space"),
    ],
)
def test_bodies_are_joined_as_bytes(first: bytes, last: bytes) -> None:
    """Texts are joined as bytes: escapes stay as they are written."""
    assert merged(FORMAT, delta(b"a"), delta(first), delta(last)) == delta(b"a" + first + last)
    assert merged(FORMAT, delta(first), delta(last)) == delta(first + last)


HALVES: Final = {
    "a-pair": (b"x\\ud83d", b"\\ude00y"),
    "a-pair-in-capitals": (b"x\\uD83D", b"\\uDE00y"),
    "the-second-half-alone": (b"x", b"\\ude00"),
    "bytes": (b"x\xf0\x9f", b"\x98\x80y"),
    "the-last-byte": (b"x\xc3", b"\xa9"),
}


@pytest.mark.parametrize("halves", HALVES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_character_that_two_deltas_have_cut_stays_cut(kind: Kind, halves: str) -> None:
    """A delta that begins inside a character is not merged with the delta before it.

    Clients decode each event by itself: they would get the character only if merging put it
    together, which depends on the time at which the second half comes.
    """
    a, b = (kind.delta(text) for text in (b"a", b"b"))
    first, last = (kind.delta(half) for half in HALVES[halves])
    if kind.name == "plain_text" and b"\\" in HALVES[halves][1]:
        assert merged(kind.format, first, last) == kind.delta(b"".join(HALVES[halves]))
        return  # plain text has no escapes
    assert merged(kind.format, a, first, last, b, b) == b"".join(
        [kind.delta(b"a" + HALVES[halves][0]), last, kind.delta(b"bb")]
    )
    assert is_unchanged(kind.format, last, last)


def test_half_a_character_is_decoded_as_without_merging() -> None:
    """The text that a client decodes is the same, character by character, as without merging."""
    events = [delta(text) for text in (b"a", b"\\ud83d", b"\\ude00", b"b", b"c")]

    def texts(stream: bytes) -> str:
        lines = [line for line in stream.split(b"\n\n") if line]
        return "".join(json.loads(line.removeprefix(b"data: "))["delta"] for line in lines)

    assert texts(merged(FORMAT, *events)) == texts(b"".join(events)) == "a\ud83d\ude00bc"


@pytest.mark.parametrize("number", [b"NaN", b"-Infinity", b"1e999", b"-0", b"1.0E+2", b"1" * 4000])
def test_numbers_stay_as_they_are_written(number: bytes) -> None:
    """Numbers keep their bytes, also if a parser would change them."""
    a, b, ab = (delta(text, b',"n":1,"x":%b' % number) for text in (b"a", b"b", b"ab"))
    assert merged(FORMAT, a, b) in {ab, a + b}
    last = [delta(text, b',"n":%b' % number) for text in (b"b", b"ab")]
    assert merged(FORMAT, delta(b"a", b',"n":1'), last[0]) in {
        last[1],
        delta(b"a", b',"n":1') + last[0],
    }


def test_a_byte_order_mark_comes_first_and_once() -> None:
    """The format is detected in a first event behind a byte order mark."""
    mark = b"\xef\xbb\xbf"
    opener = mark + sse({"type": "RUN_STARTED"})
    events = [sse({"type": "TEXT_MESSAGE_CONTENT", "delta": text}) for text in ("a", "b", "ab")]
    assert merged(formats.ag_ui, *events[:2], opener=opener) == events[2]


@pytest.mark.parametrize(
    ("first", "last"),
    [
        pytest.param("id: 1", "id: \0", id="an-ignored-id"),
        pytest.param("id", "id2: x", id="a-field-whose-name-begins-with-id"),
    ],
)
def test_an_id_that_is_none_does_not_count(first: str, last: str) -> None:
    """An event whose `id` is ignored is not merged: the client has to get the id before it."""
    assert is_unchanged(FORMAT, sse({"delta": "a"}, first), sse({"delta": "b"}, last))


def test_ids_without_a_value_are_ids() -> None:
    """An empty `id` resets the last event id, so it is kept like any other id."""
    for last in ("id", "id:", "id: ", "id:2", "id: 2"):
        event = sse({"delta": "b"}, last)
        found = merged(FORMAT, sse({"delta": "a"}, "id: 1"), event)
        assert found in {sse({"delta": "ab"}, last), sse({"delta": "a"}, "id: 1") + event}


PIECES = [
    b"data: ",
    b"data:",
    b"id: 1\n",
    b"event: x\n",
    b": c\n",
    b"retry: 1\n",
    b"\n",
    b"\n\n",
    b"\r",
    b"\r\n\r\n",
    b"{",
    b"}",
    b'"',
    b"[",
    b"]",
    b'{"delta":"a"}\n\n',
    b'"delta":',
    b"text",
    b"\\",
    b"\\ud83d",
    b"\xc3",
    b"\xa9",
    b"\xef\xbb\xbf",
    b"\x00",
    b" ",
    b"0",
    b"null",
    b"[DONE]\n\n",
    b'data: {"delta":"<think>","n":1}\n\n',
    b'data: {"delta":"b","n":2}\n\n',
    b"data: a\n\n",
    b'data: {"type":[]}\n\n',
    b'data: {"type":"RUN_STARTED"}\n\n',
]


@settings(deadline=None, max_examples=500)
@given(
    chunks=st.lists(st.lists(st.sampled_from(PIECES), max_size=4).map(b"".join), max_size=12),
    choice=st.sampled_from(list(CHOICES)),
    lines=st.booleans(),
    size=st.sampled_from([1, 20, 65_536]),
)
def test_nothing_is_raised_and_nothing_grows(
    chunks: list[bytes], choice: str, lines: bool, size: int
) -> None:
    """For any input, nothing is held at the end, and the output is not longer than the input."""
    merger = Merger(CHOICES[choice], flush_on=("x",), max_batch_bytes=size, lines=lines)
    out = b""
    for at, chunk in enumerate(chunks):
        merger.add(chunk)
        if at % 3 == 0:
            out += merger.take()
    merger.release()
    out += merger.take()
    assert (merger.held, merger.take()) == (0, b"")
    spaces = out.count(b"data: ")  # PlainText may add one before each line of data
    assert len(out) <= len(b"".join(chunks)) + spaces
    if choice == "none":
        assert out == b"".join(chunks)
