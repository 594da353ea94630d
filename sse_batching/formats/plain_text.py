"""Events whose data is text, and nothing but text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from .._framing import Event, Span, read_event
from .._merging._shapes import Delta, Places

LINE: Final = re.compile(rb"(data(?![^:\r\n]))?[^\r\n]*(\r\n|\n|\r)")


@dataclass(frozen=True, slots=True)
class PlainText:
    """`data: token`: the text of adjacent events is joined. Opt-in: never a part of `"auto"`.

        SSEBatchingMiddleware(app, merge=formats.PlainText())

    Nothing in such a stream says that two events may be joined: a client may take each for a line,
    an item, or for all of the text so far. So this is for streams that you know to be pieces of one
    text.

    *Guaranteed*: only adjacent events with the same type and the same fields are merged; the last
    `id` counts. An event with empty data, or with data that looks like JSON or like a sentinel
    (that begins with `{` or `[`), is left alone and goes out at once.

    Immutable: may be used by any number of streams, tasks and threads.
    """

    name: ClassVar[str] = "plain_text"
    header: ClassVar[None] = None
    get_is_replay: ClassVar[bool] = False
    exclusive: ClassVar[bool] = False

    def recognises(self, event: Event, value: Any) -> bool:
        """Any event is: whoever asks for it says so."""
        return True

    def read(self, event: Event, value: Any) -> Delta | None:
        return Delta(_Shape(event), event.block, _places(event)) if _is_text(event) else None


def _text(event: Event) -> bytes:
    return b"\n".join(event.block[slice(*span)] for span in event.data)


def _is_text(event: Event) -> bool:
    text = _text(event)
    return event.plain and text != b"" and not text.startswith((b"{", b"["))


def _places(event: Event) -> Places:
    return [Span(0, len(event.block))]


class _Shape:
    """Events of one type, with the same fields."""

    __slots__ = ("_key", "urgent")

    def __init__(self, event: Event) -> None:
        self.urgent = False
        self._key = (event.name, event.id is not None)

    def find(self, block: bytes) -> Places | None:
        event = read_event(block)
        if event is None or not _is_text(event) or _Shape(event) != self:
            return None
        return _places(event)

    def stands_alone(self, block: bytes, places: Places, *, first: bool) -> bool:
        return False

    def merge(self, blocks: Sequence[bytes], places: Sequence[Places]) -> bytes:
        events = [event for block in blocks if (event := read_event(block)) is not None]
        text: bytes | None = b"".join(_text(event) for event in events)
        pieces = []
        for line in LINE.finditer(blocks[-1]):
            if line[1] is None:
                pieces.append(line[0])
            elif text is not None:
                pieces += [b"data: %b%b" % (part, line[2]) for part in text.split(b"\n")]
                text = None
        return b"".join(pieces)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Shape) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)
