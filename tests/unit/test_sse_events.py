"""The bytes of a stream are cut into blocks, and no byte is changed; a block is read as WHATWG's
standard says (9.2.5 and 9.2.6), however the stream came in chunks."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

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


def cut(splitter: Splitter, *chunks: bytes) -> list[bytes]:
    """All blocks of a stream that comes in these chunks, and what is left in the end."""
    blocks = [block for chunk in chunks for block in splitter.feed(chunk)]
    held = splitter.held
    rest = splitter.release()
    assert (len(rest), splitter.held) == (held, 0)
    return [*blocks, *([rest] if rest else [])]


def text(event: Event) -> str:
    """Its data, as a client has it."""
    return b"\n".join(event.block[slice(*span)] for span in event.data).decode(errors="replace")


def events(blocks: list[bytes]) -> list[event_stream.Event]:
    """What a client makes of these blocks, if it reads them as we do."""
    found, last_id = [], ""
    for number, block in enumerate(blocks):
        event = read_event(block) if number else read_first_event(block)
        identifier = read_id(block if number else block.removeprefix(BYTE_ORDER_MARK))
        if identifier is not None and b"\0" not in identifier:
            last_id = identifier.decode(errors="replace")
        if event is not None:
            found.append(event_stream.Event(event.name or "message", text(event), last_id))
    return found


def read_id(block: bytes) -> bytes | None:
    """The id that a block sets, be it an event or not: read as an event for that."""
    event = read_event(block.rstrip(b"\r\n") + b"\ndata\n\n")
    return None if event is None or event.id is None else event.block[slice(*event.id)]


# Where blocks end.


@pytest.mark.parametrize(
    "end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r", b"\r\n\n", b"\r\n\r", b"\n\r\n", b"\r\r\n"]
)
def test_a_blank_line_ends_a_block(end: bytes) -> None:
    """However its line ends are written; it belongs to the block that it ends."""
    blocks = [b"data: a" + end, b"data: b" + end]
    assert cut(EventSplitter(), b"".join(blocks) + b"data: c") == [*blocks, b"data: c"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_one_line_end_ends_none(end: bytes) -> None:
    """A CRLF is one line end, not two."""
    whole = b"data: a" + end + b"data: b" + end
    assert cut(EventSplitter(), whole) == [whole]


def test_a_crlf_may_be_cut_in_two() -> None:
    """The event is over with the CR, as clients know. The LF leads the next block."""
    splitter = EventSplitter()
    assert splitter.feed(b"data: a\r\n\r") == [b"data: a\r\n\r"]
    assert splitter.feed(b"\n") == []
    assert splitter.feed(b"data: b\r\n\r\n") == [b"\ndata: b\r\n\r\n"]


def test_a_cr_may_be_the_first_half_of_a_crlf() -> None:
    """Only the next byte tells."""
    assert cut(EventSplitter(), b"data: a\r", b"\ndata: b\r", b"\n\r\n") == [
        b"data: a\r\ndata: b\r\n\r\n"
    ]


def test_a_line_of_json_ends_with_its_line_feed() -> None:
    """A CR before it is the line's; a CR alone ends nothing."""
    assert cut(LineSplitter(), b"{}\n{}\r", b"\n\n{\r}\n{") == [
        b"{}\n",
        b"{}\r\n",
        b"\n",
        b"{\r}\n",
        b"{",
    ]


def test_what_is_held_is_counted_and_released_once() -> None:
    """What was released is not in what follows."""
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
    """A stream, cut anywhere: also inside of a character, and of a CRLF."""
    stream = draw(streams)
    cuts = sorted(draw(st.sets(st.integers(0, len(stream)))))
    return [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]


@settings(deadline=None, max_examples=300)
@given(chunks_of(), st.sampled_from([EventSplitter, LineSplitter]))
def test_no_byte_is_changed(
    chunks: list[bytes], splitter: type[EventSplitter | LineSplitter]
) -> None:
    """The blocks and what is released are the stream."""
    assert b"".join(cut(splitter(), *chunks)) == b"".join(chunks)


@settings(deadline=None, max_examples=500)
@given(chunks_of(), st.booleans())
def test_events_are_those_of_the_standard_however_they_are_cut(
    chunks: list[bytes], marked: bool
) -> None:
    """Type, data and last id, as an independent parser finds them in the whole stream."""
    if marked:
        chunks = [BYTE_ORDER_MARK[:1], BYTE_ORDER_MARK[1:], *chunks]
    splitter = EventSplitter()
    blocks = [block for chunk in chunks for block in splitter.feed(chunk)]
    assert events(blocks) == event_stream.parse(b"".join(chunks))


# What a block says.


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
    """Its type, its data, its id; and nothing in it is in the way of a merge."""
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
def test_an_event_with_anything_more_is_not_plain(more: bytes) -> None:
    """Before its data, or behind it. It is an event all the same."""
    for block in (more + b"data: a\n\n", b"data: a\n" + more + b"\n"):
        event = read_event(block)
        assert event is not None
        assert (text(event), event.plain) == ("a", False)


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    """It may stand in front of the stream."""
    event = read_first_event(BYTE_ORDER_MARK + b"data: a\n\n")
    assert event is not None
    assert text(event) == "a"


def test_of_several_names_the_last_counts() -> None:
    """And of several ids."""
    event = read_event(b"event: x\nid: 1\nevent: y\nid: 2\ndata\n\n")
    assert event is not None
    assert event.id is not None
    assert (event.name, event.block[slice(*event.id)]) == ("y", b"2")


@pytest.mark.parametrize(
    "block",
    [b"", b"\n", b"\n\n", b": c\n\n", b"event: x\n\n", b"id: 1\n\n", b"retry: 1\n\n", b"x\n\n"],
)
def test_a_block_without_data_is_no_event(block: bytes) -> None:
    """A comment, a time to wait, an id: nothing is dispatched."""
    assert read_event(block) is None


def test_the_payload_has_a_character_for_each_byte() -> None:
    """So that a place in it is a place in the block."""
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
    """All of it is data."""
    event = read_line(line)
    assert event is not None
    assert [line[slice(*span)] for span in event.data] == [data]
    assert (event.block, event.name, event.id, event.plain) == (line, "", None, True)


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b""])
def test_a_blank_line_of_json_is_no_event(line: bytes) -> None:
    """It is left alone."""
    assert read_line(line) is None
