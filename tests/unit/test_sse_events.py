"""How a stream is split into blocks, and how a block is read (WHATWG, 9.2.5 and 9.2.6).

No byte is changed, and the chunks in which a stream comes make no difference.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import example, given, settings, strategies as st

from sse_batching._sse import (
    BYTE_ORDER_MARK,
    Event,
    EventSplitter,
    LineSplitter,
    Splitter,
    read_event,
    read_first_event,
    read_line,
)
from tests.support import event_stream

ID_WITH_NUL: Final = re.compile(rb"(?<![^\r\n])id:[^\r\n]*\0[^\r\n]*")


def cut(splitter: Splitter, *chunks: bytes) -> list[bytes]:
    """Return all blocks of a stream that comes in these chunks, and the rest at its end."""
    blocks = [block for chunk in chunks for block in splitter.feed(chunk)]
    held = splitter.held
    rest = splitter.release()
    assert (len(rest), splitter.held) == (held, 0)
    return [*blocks, *([rest] if rest else [])]


def text(event: Event) -> str:
    """Return the data of the event, as a client sees it."""
    return b"\n".join(event.block[slice(*span)] for span in event.data).decode(errors="replace")


def events(blocks: list[bytes]) -> list[event_stream.Event]:
    """Return the events of these blocks, read with the functions under test."""
    found, last_id = [], ""
    for number, block in enumerate(blocks):
        event = read_event(block) if number else read_first_event(block)
        identifier = read_id(block if number else block.removeprefix(BYTE_ORDER_MARK))
        if identifier is not None:
            last_id = identifier.decode(errors="replace")
        if event is not None:
            found.append(event_stream.Event(event.name or "message", text(event), last_id))
    return found


def read_id(block: bytes) -> bytes | None:
    """Return the id that a block sets, even if the block is no event. Data is added to read it.

    The standard ignores each `id` line with NUL, and `read_event` does not: an event with such a
    line is not plain, and is never merged.
    """
    block = ID_WITH_NUL.sub(b":", block)
    event = read_event(block.rstrip(b"\r\n") + b"\ndata\n\n")
    return None if event is None or event.id is None else event.block[slice(*event.id)]


# Where blocks end.


@pytest.mark.parametrize(
    "end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r", b"\r\n\n", b"\r\n\r", b"\n\r\n", b"\r\r\n"]
)
def test_a_blank_line_ends_a_block(end: bytes) -> None:
    """The blank line may have any line end, and belongs to the block that it ends."""
    blocks = [b"data: a" + end, b"data: b" + end]
    assert cut(EventSplitter(), b"".join(blocks) + b"data: c") == [*blocks, b"data: c"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_one_line_end_ends_no_block(end: bytes) -> None:
    """A CRLF is one line end, not two."""
    whole = b"data: a" + end + b"data: b" + end
    assert cut(EventSplitter(), whole) == [whole]


def test_a_crlf_may_be_split_between_chunks() -> None:
    """The event ends with the CR, for clients as well. The LF is the start of the next block."""
    splitter = EventSplitter()
    assert splitter.feed(b"data: a\r\n\r") == [b"data: a\r\n\r"]
    assert splitter.feed(b"\n") == []
    assert splitter.feed(b"data: b\r\n\r\n") == [b"\ndata: b\r\n\r\n"]


def test_a_cr_at_the_end_of_a_chunk_may_be_half_of_a_crlf() -> None:
    """The next byte decides whether a line has ended or a blank line follows."""
    assert cut(EventSplitter(), b"data: a\r", b"\ndata: b\r", b"\n\r\n") == [
        b"data: a\r\ndata: b\r\n\r\n"
    ]


def test_a_line_of_json_ends_with_its_line_feed() -> None:
    """A CR before the line feed belongs to the line, and a CR alone does not end a line."""
    assert cut(LineSplitter(), b"{}\n{}\r", b"\n\n{\r}\n{") == [
        b"{}\n",
        b"{}\r\n",
        b"\n",
        b"{\r}\n",
        b"{",
    ]


def test_held_bytes_are_counted_and_released_once() -> None:
    """Released bytes do not come again with the next block."""
    splitter = EventSplitter()
    assert splitter.feed(b"data: a\n\ndata: b\n") == [b"data: a\n\n"]
    assert splitter.held == len(b"data: b\n")
    assert splitter.release() == b"data: b\n"
    assert (splitter.held, splitter.release()) == (0, b"")
    assert splitter.feed(b"data: c\n\n") == [b"data: c\n\n"]


PIECES = [
    "data: a",
    "data:b",
    "data",
    "event: x",
    "id: 1",
    "id",
    "id: \0",
    ": c",
    "retry: 1",
    "é",
    "x",
]
ENDS = ["\n", "\r\n", "\r", "\n\n", "\r\n\r\n", "\r\r", ""]
STREAMS = st.lists(st.sampled_from(PIECES + ENDS), max_size=20).map(
    lambda found: "".join(found).encode()
)
ANY_STREAM = STREAMS | st.binary(max_size=30) | st.text("da:t \r\n", max_size=30).map(str.encode)


@st.composite
def chunks_of(draw: st.DrawFn, streams: st.SearchStrategy[bytes] = ANY_STREAM) -> list[bytes]:
    """A stream that is split anywhere, also inside a character or a CRLF."""
    stream = draw(streams)
    cuts = sorted(draw(st.sets(st.integers(0, len(stream)))))
    return [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]


@settings(deadline=None, max_examples=300)
@given(chunks_of(), st.sampled_from([EventSplitter, LineSplitter]))
def test_no_byte_is_changed(
    chunks: list[bytes], splitter: type[EventSplitter | LineSplitter]
) -> None:
    """The blocks and the released rest are, together, the stream."""
    assert b"".join(cut(splitter(), *chunks)) == b"".join(chunks)


@settings(deadline=None, max_examples=500)
@given(chunks_of(), st.booleans())
@example([b"data: a\nid: 1\nid: \0\n\n"], False)
def test_events_are_those_of_the_standard_however_the_stream_is_split(
    chunks: list[bytes], marked: bool
) -> None:
    """The type, the data and the last event id are those that an independent parser finds in the
    whole stream."""
    if marked:
        chunks = [BYTE_ORDER_MARK[:1], BYTE_ORDER_MARK[1:], *chunks]
    splitter = EventSplitter()
    blocks = [block for chunk in chunks for block in splitter.feed(chunk)]
    assert events(blocks) == event_stream.parse(b"".join(chunks))


# The fields of a block.


@pytest.mark.parametrize(
    ("block", "name", "data", "identifier"),
    [
        (b"data: a\n\n", "", "a", None),
        (b"data:a\n\n", "", "a", None),
        (b"data:  a \n\n", "", " a ", None),
        (b"data:\n\n", "", "", None),
        (b"data\n\n", "", "", None),
        (b"data: a: b\n\n", "", "a: b", None),
        (b"data: a\ndata\ndata:b\n\n", "", "a\n\nb", None),
        (b"data: a\r\ndata: b\r\r\n", "", "a\nb", None),
        (b"event: x\ndata: a\nid: 1\n\n", "x", "a", b"1"),
        (b"id:1\nevent:x\ndata: a\n\n", "x", "a", b"1"),
        (b"id:\nevent:\ndata: a\n\n", "", "a", b""),
        (b"event: \xc3\xa9\ndata: \xc3\xa9\n\n", "é", "é", None),
        (b"event: \xc3\ndata: \xc3\n\n", "\ufffd", "\ufffd", None),
        (b"\n\r\ndata: a\n\n", "", "a", None),
        (b"data: \xe2\x80\xa8\x0b\x0c\x1c\xc2\x85\n\n", "", "\u2028\x0b\x0c\x1c\x85", None),
    ],
)
def test_a_plain_event_is_read(
    block: bytes, name: str, data: str, identifier: bytes | None
) -> None:
    """The type, the data and the id are read, and the event is plain, so that it can be merged."""
    event = read_event(block)
    assert event is not None
    assert (event.block, event.name, text(event), event.plain) == (block, name, data, True)
    assert (None if event.id is None else block[slice(*event.id)]) == identifier


@pytest.mark.parametrize(
    "more",
    [
        b": c\n",
        b":\n",
        b"retry: 1\n",
        b"retry\n",
        b"new: 1\n",
        b"Data: a\n",
        b" data: a\n",
        b"datas: a\n",
        b"event: x\nevent: x\n",
        b"id: 1\nid: 1\n",
        b"{}\n",
        b"id\n",
        b"event\n",
        b"id: 1\0\n",
    ],
)
def test_an_event_with_any_other_line_is_not_plain(more: bytes) -> None:
    """The other line may come before the data or behind it, and the block is still an event."""
    for block in (more + b"data: a\n\n", b"data: a\n" + more + b"\n"):
        event = read_event(block)
        assert event is not None
        assert (text(event), event.plain) == ("a", False)


def test_a_byte_order_mark_does_not_belong_to_the_first_line() -> None:
    """A stream may begin with a byte order mark."""
    event = read_first_event(BYTE_ORDER_MARK + b"data: a\n\n")
    assert event is not None
    assert text(event) == "a"


def test_the_last_of_several_fields_counts() -> None:
    """An event with several types or ids has the last of them."""
    event = read_event(b"event: x\nid: 1\nevent: y\nid: 2\ndata\n\n")
    assert event is not None
    assert event.id is not None
    assert (event.name, event.block[slice(*event.id)]) == ("y", b"2")


@pytest.mark.parametrize(
    "block",
    [b"", b"\n", b"\n\n", b": c\n\n", b"event: x\n\n", b"id: 1\n\n", b"retry: 1\n\n", b"x\n\n"],
)
def test_a_block_without_data_is_no_event(block: bytes) -> None:
    """A client dispatches nothing for a comment, a reconnection time or an id alone."""
    assert read_event(block) is None


def test_the_payload_has_a_character_for_each_byte() -> None:
    """A position in the payload is therefore a position in the block."""
    event = read_event("event: é\ndata: {é}\n\n".encode())
    assert event is not None
    assert event.payload().encode("latin-1").decode() == "{é}"
    assert len(event.payload()) == len("{é}".encode())


@pytest.mark.parametrize(
    ("line", "data"),
    [
        (b"{}\n", b"{}"),
        (b"{}\r\n", b"{}"),
        (b" {} \n", b" {} "),
        (b"\xc3\xa9\n", b"\xc3\xa9"),
        (b"x", b"x"),
    ],
)
def test_a_line_of_json_is_an_event(line: bytes, data: bytes) -> None:
    """The whole line is data, except for its line end."""
    event = read_line(line)
    assert event is not None
    assert [line[slice(*span)] for span in event.data] == [data]
    assert (event.block, event.name, event.id, event.plain) == (line, "", None, True)


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b""])
def test_a_blank_line_of_json_is_no_event(line: bytes) -> None:
    """A blank line between lines of JSON means nothing."""
    assert read_line(line) is None
