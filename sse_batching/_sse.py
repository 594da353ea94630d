"""The bytes of an event stream: where events end, and which fields they have.

After WHATWG, server-sent events, 9.2.6. Nothing here changes a byte: what goes in comes out, cut
into *blocks*. A block is all from the end of one event to the end of the next, its blank line
included: as a rule one event; sometimes only a comment.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Protocol

KEEPALIVE_COMMENT: Final = b":\n"
"""A comment line. No blank line follows: some clients make an empty event of a comment block."""

TAIL_LENGTH: Final = 3
"""How many of the last bytes `at_event_boundary` looks at."""

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

_LINE_END: Final = rb"(?:\r\n|\n|\r)"
# A CR that ends the blank line may be half of a CRLF that is cut in two. The event is over all the
# same, and clients know it. The LF then leads the next block, where it is one more blank line.
_BLANK_LINE: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))" + _LINE_END)
_LINE: Final = re.compile(rb"([^\r\n]*)" + _LINE_END)
_FIELD: Final = re.compile(rb"([^:]*)(?:: ?(.*))?", re.DOTALL)


def at_event_boundary(tail: bytes) -> bool:
    """Whether an event has just ended, so that a comment line may follow these last bytes.

    The start of the stream is a boundary too. A final CR is not taken for one: its LF may be
    still to come, and would then end a line that is not there.
    """
    return not tail or tail.endswith((b"\n\n", b"\n\r\n"))


class Span(NamedTuple):
    """From where to where, in the bytes of a block."""

    start: int
    end: int


class Event(NamedTuple):
    """What a block says, and where in it."""

    block: bytes
    name: str
    """Its event type; empty if it does not say."""
    data: tuple[Span, ...]
    """The values of its `data` lines."""
    id: Span | None = None
    plain: bool = True
    """Whether it consists of nothing but `data` lines, and an `event` and an `id` line at most: no
    comment, no `retry`, nothing that is not known, and no byte order mark."""

    def payload(self) -> str:
        """Its one line of data. One character for each byte, so that places stay what they are."""
        return self.block[slice(*self.data[0])].decode("latin-1")


class Splitter(Protocol):
    """Cuts what comes into blocks, however it comes."""

    @property
    def held(self) -> int:
        """Bytes of a block that is not complete."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The blocks that are complete with this chunk."""

    def release(self) -> bytes:
        """Give out what is held. The rest of that block is taken for one of its own."""


class _Splitter:
    """Cuts behind whatever matches `_end`."""

    _end: re.Pattern[bytes]
    _end_length: int

    def __init__(self) -> None:
        self._held = bytearray()
        self._released = 0  # so many of these bytes are out, but may be the first of an end

    @property
    def held(self) -> int:
        return len(self._held) - self._released

    def feed(self, chunk: bytes) -> list[bytes]:
        held = self._held
        seen = max(0, len(held) - self._end_length)
        held += chunk
        blocks, start = [], self._released
        for end in self._end.finditer(held, seen):
            if end.end() > start:
                blocks.append(bytes(held[start : end.end()]))
                start = end.end()
        if blocks:
            del held[:start]
            self._released = 0
        return blocks

    def release(self) -> bytes:
        released = bytes(self._held[self._released :])
        del self._held[: max(0, len(self._held) - self._end_length)]
        self._released = len(self._held)
        return released


class EventSplitter(_Splitter):
    """An event stream: cut at its blank lines."""

    _end = _BLANK_LINE
    _end_length = 3


class LineSplitter(_Splitter):
    """Newline-delimited JSON: cut at its line feeds."""

    _end = re.compile(rb"\n")
    _end_length = 0


def is_one_block(chunk: bytes) -> bool:
    """Whether the chunk is one block of an event stream, and all of it."""
    end = _BLANK_LINE.search(chunk)
    return end is not None and end.end() == len(chunk)


def read_event(block: bytes, start: int = 0) -> Event | None:
    """What the block of an event stream says, from `start` on; None if no event comes of it.

    An event without a `data` line is none, by the standard. Only the last block of a stream may
    lack its blank line, and is then no event either.
    """
    name, identifier, data, plain = "", None, [], True
    seen = set()
    for line in _LINE.finditer(block, start):
        if line.start(1) == line.end(1):
            continue
        match = _FIELD.match(block, line.start(1), line.end(1))
        assert match is not None  # it matches any line
        field = match[1]
        value = Span(*match.span(2)) if match[2] is not None else Span(line.end(1), line.end(1))
        if field == b"data":
            data.append(value)
            continue
        if field == b"event":
            name = match[2].decode(errors="replace") if match[2] else ""
        elif field == b"id":
            identifier = value
        # One without a colon, or with a NUL in its value, is seldom, and not worth any thought.
        usual = field in {b"event", b"id"} and match[2] is not None and b"\0" not in match[2]
        plain = plain and usual and field not in seen
        seen.add(field)
    return Event(block, name, tuple(data), identifier, plain) if data else None


def read_first_event(block: bytes) -> Event | None:
    """The same, of the first block of a stream, which may begin with a byte order mark."""
    if not block.startswith(BYTE_ORDER_MARK):
        return read_event(block)
    event = read_event(block, len(BYTE_ORDER_MARK))
    return event and event._replace(plain=False)


def read_line(block: bytes) -> Event | None:
    """A line of newline-delimited JSON, as an event that consists of data; None if it is blank."""
    end = len(block.rstrip(b"\r\n"))
    return Event(block, "", (Span(0, end),)) if end else None
