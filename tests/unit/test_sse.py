"""Where a comment line can be added to an event stream without any change for its reader."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings, strategies as st

from sse_batching._sse import KEEPALIVE_COMMENT, TAIL_LENGTH, at_event_boundary, begins_event_stream


def read(stream: bytes) -> list[bytes]:
    """Return the lines that a reader sees in an event stream: all but comments, also blank ones."""
    lines = re.split(rb"\r\n|\n|\r", stream)
    return [line for line in lines if not line.startswith(b":")]


@pytest.mark.parametrize(
    ("tail", "boundary"),
    [
        pytest.param(b"", True, id="start-of-stream"),
        pytest.param(b"x\n\n", True, id="lf"),
        pytest.param(b"\r\n\r\n", True, id="crlf"),
        pytest.param(b"\r\n\n", True, id="crlf-lf"),
        pytest.param(b"x\n\r\n", True, id="lf-crlf"),
        pytest.param(b"\n\n\n", True, id="blank-lines"),
        pytest.param(b"x", False, id="inside-a-line"),
        pytest.param(b"x\n", False, id="between-two-lines"),
        pytest.param(b"x\r\n", False, id="between-two-crlf-lines"),
        pytest.param(b"\n", False, id="one-blank-line-and-no-more-known"),
        pytest.param(b"\r", False, id="inside-a-crlf"),
        pytest.param(b"x\n\r", False, id="inside-the-crlf-of-a-blank-line"),
        pytest.param(b"x\r\r", False, id="cr-that-may-become-crlf"),
        pytest.param(b"\n\nx", False, id="next-event-begun"),
        pytest.param(b"\n\n\0", False, id="nul"),
    ],
)
def test_an_event_boundary_is_recognized(tail: bytes, boundary: bool) -> None:
    """A boundary is a blank line, unless its CR may be the first half of a CRLF."""
    assert at_event_boundary(tail) is boundary


@pytest.mark.parametrize(
    ("head", "begins"),
    [
        pytest.param(b"", None, id="nothing-yet"),
        pytest.param(b"\xef\xbb", None, id="half-a-byte-order-mark"),
        pytest.param(b"\r\n", None, id="blank-line"),
        pytest.param(b"dat", None, id="half-a-name"),
        pytest.param(b"data", None, id="name-without-an-end"),
        pytest.param(b"data:", True, id="field"),
        pytest.param(b"id\r", True, id="field-without-a-value"),
        pytest.param(b":", True, id="comment"),
        pytest.param(b"\xef\xbb\xbf\nevent: x", True, id="behind-a-mark-and-a-blank-line"),
        pytest.param(b"database: x", False, id="longer-name"),
        pytest.param(b"Data: x", False, id="upper-case"),
        pytest.param(b"data : x", False, id="space-behind-the-name"),
        pytest.param(b"x: y", False, id="unknown-field"),
        pytest.param(b"Hello", False, id="text"),
        pytest.param(b"\xef\xbb\xbfHello", False, id="text-behind-a-mark"),
    ],
)
def test_the_beginning_of_an_event_stream_is_recognized(head: bytes, begins: bool | None) -> None:
    """A field that the standard names, or a comment, begins an event stream. None: unknown."""
    assert begins_event_stream(head) is begins


some_lines = st.text(alphabet="a:\r\n", max_size=8)
an_end = st.sampled_from(["", "\n\n", "\r\n\r\n", "\r\r", "\n\r", "\n\r\n", "\r\n\n"])


@settings(deadline=None)
@given(some_lines, an_end, some_lines)
def test_a_comment_at_a_boundary_changes_nothing(lines: str, end: str, rest: str) -> None:
    """A comment line at any boundary leaves the lines that a reader sees unchanged."""
    before, after = (lines + end).encode(), rest.encode()
    if at_event_boundary(before[-TAIL_LENGTH:]):
        assert read(before + KEEPALIVE_COMMENT + after) == read(before + after)


@settings(deadline=None)
@given(st.text(alphabet="a\r\n", max_size=20))
def test_the_last_three_bytes_are_enough(stream: str) -> None:
    """The tail that is kept shows a boundary as the whole stream does."""
    whole = stream.encode()

    assert at_event_boundary(whole[-TAIL_LENGTH:]) is at_event_boundary(whole)


def test_the_comment_is_one_bare_line() -> None:
    """The comment has no blank line behind it, because some clients would make an event of it."""
    assert KEEPALIVE_COMMENT == b":\n"
