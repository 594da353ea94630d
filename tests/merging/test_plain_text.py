"""`PlainText`: events whose data is bare text."""

from __future__ import annotations

import pytest

from sse_batching import formats
from tests.merging.merged import is_unchanged, merged, sse
from tests.support import event_stream

PLAIN = formats.PlainText()


def texts(stream: bytes) -> list[str]:
    return [event.data for event in event_stream.parse(stream)]


def test_text_is_merged() -> None:
    """`data: Hello` and `data:  world` become `data: Hello world`: the first space is not text."""
    assert merged(PLAIN, sse("Hello"), sse(" world")) == sse("Hello world")
    assert merged(PLAIN, *[sse("a")] * 50) == sse("a" * 50)


@pytest.mark.parametrize(
    ("first", "last", "joined"),
    [
        pytest.param(b"data:a\n\n", b"data:b\n\n", b"data: ab\n\n", id="no-space"),
        pytest.param(b"data: a\n\n", b"data:b\n\n", b"data: ab\n\n", id="a-space-in-one"),
        pytest.param(b"data:  a\n\n", b"data:  b\n\n", b"data:  a b\n\n", id="two-spaces"),
        pytest.param(b"data:  \n\n", b"data:  \n\n", b"data:   \n\n", id="nothing-but-spaces"),
        pytest.param(
            b"data: a\ndata: b\n\n", b"data: c\n\n", b"data: a\ndata: bc\n\n", id="lines-first"
        ),
        pytest.param(
            b"data: a\n\n",
            b"data: b\ndata:\ndata: c\n\n",
            b"data: ab\ndata: \ndata: c\n\n",
            id="last",
        ),
        pytest.param(b"data\ndata\n\n", b"data: a\n\n", b"data: \ndata: a\n\n", id="a-line-end"),
        pytest.param(
            b"id: 1\ndata: a\n\n", b"data: b\nid: 2\n\n", b"data: ab\nid: 2\n\n", id="the-last-id"
        ),
        pytest.param(
            b"event: x\r\ndata: a\r\n\r\n",
            b"event: x\r\ndata: b\r\n\r\n",
            b"event: x\r\ndata: ab\r\n\r\n",
            id="crlf",
        ),
        pytest.param(b"data: a\n\n", b"\ndata: b\n\n", b"\ndata: ab\n\n", id="a-blank-line-first"),
    ],
)
def test_text_stays_what_it_is(first: bytes, last: bytes, joined: bytes) -> None:
    """A reader who joins all texts gets the same text, in one line of data or in several."""
    assert merged(PLAIN, first, last) == joined
    assert "".join(texts(joined)) == "".join(texts(first + last))


@pytest.mark.parametrize(
    "data", ['{"a":1}', "[1]", "[DONE]", "[END]", "{", " {", "  [DONE]", ""], ids=repr
)
def test_what_looks_like_something_else_is_left(data: str) -> None:
    """JSON, a sentinel and empty data are not merged, because joining them has no clear meaning."""
    assert is_unchanged(PLAIN, sse("a"), sse(data), sse(data), sse("b"))


@pytest.mark.parametrize(
    ("first", "last"),
    [
        pytest.param(sse("a", "event: x"), sse("b", "event: y"), id="another-name"),
        pytest.param(sse("a", "event: x"), sse("b"), id="a-missing-name"),
        pytest.param(sse("a"), sse("b", "event: x"), id="a-new-name"),
        pytest.param(sse("a", "id: 1"), sse("b"), id="a-missing-id"),
        pytest.param(sse("a"), sse("b", "id: 1"), id="a-new-id"),
        pytest.param(sse("a", "retry: 1"), sse("b", "retry: 1"), id="retry"),
        pytest.param(sse("a", ": x"), sse("b", ": x"), id="comments"),
        pytest.param(sse("a", "new: x"), sse("b", "new: x"), id="unknown-fields"),
        pytest.param(sse("a", "id: 1"), sse("b", "id: \0"), id="an-ignored-id"),
    ],
)
def test_other_fields_forbid(first: bytes, last: bytes) -> None:
    """Only events with the same name and the same fields are merged."""
    assert is_unchanged(PLAIN, first, last)


@pytest.mark.parametrize("barrier", [b": ping\n\n", b"retry: 1\n\n", b"id: 4\n\n", b"data\n\n"])
def test_what_is_no_text_stands_between(barrier: bytes) -> None:
    """A block without text keeps its place, and the texts around it are not merged."""
    assert merged(PLAIN, sse("a"), sse("b"), barrier, sse("c"), sse("d")) == (
        sse("ab") + barrier + sse("cd")
    )


def test_no_line_end_is_lost_though_a_chunk_ends_amid_it() -> None:
    """The LF of a CRLF that a chunk ends inside stays behind its event."""
    chunks = [b"data: a\r\n\r", b"\ndata: b\r\n\r\n", b"data: c\r\n\r\n"]
    found = merged(PLAIN, *chunks)
    assert b"\r\n\r\n" in found
    assert "".join(texts(found)) == "abc"


def test_bytes_that_are_no_utf_8_stay() -> None:
    """Bytes that are not UTF-8 are joined unchanged."""
    assert merged(PLAIN, b"data: \xc3\n\n", b"data: \xff\xfe\n\n") == b"data: \xc3\xff\xfe\n\n"


def test_a_byte_order_mark_amid_the_stream_loses_no_text() -> None:
    """The mark makes a field with another name, so the block is no event and passes through."""
    events = [sse("a"), b"\xef\xbb\xbfdata: b\n\n", sse("c")]
    assert is_unchanged(PLAIN, *events)


def test_a_merged_text_has_at_most_so_many_bytes() -> None:
    """A longer text becomes several events."""
    found = merged(PLAIN, *[sse("abc")] * 50, max_merged_bytes=40)
    assert max(len(event) for event in found.split(b"\n\n")) <= 40
    assert "".join(texts(found)) == "abc" * 50


def test_plain_text_is_no_part_of_auto() -> None:
    """Only the user can know that plain text may be joined, so `auto` does not include it."""
    assert not any(isinstance(format, formats.PlainText) for format in formats.auto)
