"""The bytes of an event stream: where events end, and which fields they have.

The rules are those of WHATWG, server-sent events, 9.2.6. The bytes are cut into *blocks* and never
changed. A block reaches from the end of one event to the end of the next, with its blank line. It
usually holds one event, sometimes only a comment.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

KEEPALIVE_COMMENT: Final = b":\n"
"""A comment line without a blank line: some clients make an empty event of a comment block."""

TAIL_LENGTH: Final = 3
"""How many of the last bytes `at_event_boundary` looks at."""

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

RECORD_SEPARATOR: Final = b"\x1e"
"""What a line of a JSON text sequence begins with (RFC 7464)."""

EVENT_STREAM: Final = b"text/event-stream"

_JSON_LINES: Final = re.compile(
    rb"(application|text)/(x-)?([\w.-]+\+)?(ndjson|ldjson|jsonl|json-?lines|json-seq)"
    rb"|application/(x-)?stream\+json"
)

_LINE_END: Final = rb"(?:\r\n|\n|\r)"
# A CR at the end of a chunk may be half of a CRLF. The event ends with that CR nevertheless, as it
# does for clients. If the LF follows, it begins the next block, as one more blank line.
_BLANK_LINE: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))" + _LINE_END)
_LINE: Final = re.compile(rb"([^\r\n]*)" + _LINE_END)
_FIELD: Final = re.compile(rb"([^:]*)(?:: ?(.*))?", re.DOTALL)
_FIELD_NAME: Final = re.compile(rb"[\r\n]*([^:\r\n]*)([:\r\n]?)")
_FIELD_NAMES: Final = (b"data", b"event", b"id", b"retry")


def at_event_boundary(tail: bytes) -> bool:
    """Return True if a comment line may follow these last bytes: an event has just ended, or the
    stream begins.

    A final CR does not count. An LF may follow that belongs to the CR, and behind a comment that LF
    would be a blank line.
    """
    return not tail or tail.endswith((b"\n\n", b"\n\r\n"))


def begins_event_stream(head: bytes) -> bool | None:
    """Return True if these first bytes of a body begin with a comment or with a field that the
    standard names. Return None if more bytes are needed to tell.

    Many tutorials stream plain text as `text/event-stream`. Such a body has no events.
    """
    if BYTE_ORDER_MARK.startswith(head):
        return None
    match = _FIELD_NAME.match(head.removeprefix(BYTE_ORDER_MARK))
    assert match is not None  # the pattern matches anything
    name, end = match.groups()
    if end:
        return name in _FIELD_NAMES or not name  # no name: a comment
    return None if any(known.startswith(name) for known in _FIELD_NAMES) else False


def is_json_lines(media_type: bytes) -> bool:
    """Return True if a body of this media type, in lower case, has one JSON value in each line.

    No standard names such a type. Many names are in use, such as `application/x-ndjson` by Ollama
    and `application/jsonl` by FastAPI. In a JSON text sequence each line begins with a separator.
    """
    return _JSON_LINES.fullmatch(media_type) is not None


class Span(NamedTuple):
    """The start and end of a value in a block."""

    start: int
    end: int


class Event(NamedTuple):
    """The fields of a block, and where they are."""

    block: bytes
    name: str
    """The event type; empty if the event has none."""
    data: tuple[Span, ...]
    """The values of the `data` lines."""
    id: Span | None = None
    """The value of the last `id` line; None if there is none."""
    plain: bool = True
    """True if the block has only `data` lines and at most one `event` and one `id` line: no
    comment, no `retry`, no unknown field, and no byte order mark."""

    def payload(self) -> str:
        """Return the first line of data, with one character for each byte, so that positions stay
        the same. For events with a single line of data."""
        return self.block[slice(*self.data[0])].decode("latin-1")


class Splitter:
    """Cuts a stream into blocks, after each match of `_end`, wherever chunks begin and end."""

    _end: re.Pattern[bytes]
    _end_length: int
    """How many bytes of a match may have come with earlier chunks."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._released = 0  # bytes of `_held` already returned; an end may begin in them

    @property
    def held(self) -> int:
        """The number of bytes of a block that is not complete."""
        return len(self._held) - self._released

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the blocks that this chunk completes."""
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
        """Return the held bytes. The rest of their block becomes a block of its own."""
        released = bytes(self._held[self._released :])
        del self._held[: max(0, len(self._held) - self._end_length)]
        self._released = len(self._held)
        return released


class EventSplitter(Splitter):
    """An event stream: cut at its blank lines."""

    _end = _BLANK_LINE
    _end_length = 3


class LineSplitter(Splitter):
    """Newline-delimited JSON: cut at its line feeds."""

    _end = re.compile(rb"\n")
    _end_length = 0


def is_one_block(chunk: bytes) -> bool:
    """Return True if the chunk is exactly one block of an event stream."""
    end = _BLANK_LINE.search(chunk)
    return end is not None and end.end() == len(chunk)


def read_event(block: bytes, start: int = 0) -> Event | None:
    """Return the event in this block of an event stream, from `start` on.

    Return None if the block has no `data` line, which an event needs by the standard. An event also
    needs its blank line, so the block must be complete.
    """
    name, identifier, data, plain = "", None, [], True
    seen = set()
    for line in _LINE.finditer(block, start):
        if line.start(1) == line.end(1):
            continue
        match = _FIELD.match(block, line.start(1), line.end(1))
        assert match is not None  # the pattern matches any line
        field = match[1]
        value = Span(*match.span(2)) if match[2] is not None else Span(line.end(1), line.end(1))
        if field == b"data":
            data.append(value)
            continue
        if field == b"event":
            name = match[2].decode(errors="replace") if match[2] else ""
        elif field == b"id":
            identifier = value
        # A field without a colon, or a value with NUL, is rare: the event is not plain.
        usual = field in {b"event", b"id"} and match[2] is not None and b"\0" not in match[2]
        plain = plain and usual and field not in seen
        seen.add(field)
    return Event(block, name, tuple(data), identifier, plain) if data else None


def read_first_event(block: bytes) -> Event | None:
    """Return the event of the first block, which may begin with a byte order mark."""
    if not block.startswith(BYTE_ORDER_MARK):
        return read_event(block)
    event = read_event(block, len(BYTE_ORDER_MARK))
    return event and event._replace(plain=False)


def read_line(block: bytes) -> Event | None:
    """Return a line of newline-delimited JSON as an event; None if the line is blank.

    The data of a line that begins with a record separator is what follows the separator.
    """
    start = len(RECORD_SEPARATOR) if block.startswith(RECORD_SEPARATOR) else 0
    end = len(block.rstrip(b"\r\n"))
    return Event(block, "", (Span(start, end),)) if end > start else None
