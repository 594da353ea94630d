"""Events whose data is text, and nothing but text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from .._merging._runs import Delta, Parts
from .._sse import Event, is_one_block, read_event

LINE: Final = re.compile(rb"(data(?=[:\r\n]))?[^\r\n]*(\r\n|\n|\r)")


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
    mark: ClassVar[bytes] = b""
    get_is_replay: ClassVar[bool] = False
    exclusive: ClassVar[bool] = False

    def recognises(self, event: Event, value: Any) -> bool:
        """Any event is: whoever asks for it says so."""
        return True

    def read(self, event: Event, value: Any) -> Delta | None:
        return Delta(_Run(event), event.block, ()) if _is_text(event) else None


def _text(event: Event) -> bytes:
    return b"\n".join(event.block[slice(*span)] for span in event.data)


def _is_text(event: Event) -> bool:
    text = _text(event)
    return event.plain and text != b"" and not text.lstrip().startswith((b"{", b"["))


class _Run:
    """Events of one type, with the same fields."""

    __slots__ = ("_key", "_last", "_texts", "alone", "size", "urgent")

    def __init__(self, event: Event) -> None:
        self.urgent = False
        self.alone = False
        self.size = 0
        self._key = (event.name, event.id is not None)
        self._texts: list[bytes] = []
        self._last = b""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Run) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def add(self, block: bytes) -> bool:
        event = read_event(block) if is_one_block(block) else None
        if event is None or not _is_text(event) or _Run(event) != self:
            return False
        self._texts.append(_text(event))
        self._last = block
        self.size += len(block)
        return True

    def add_known(self, block: bytes, parts: Parts) -> bool:
        return self.add(block)

    def take(self) -> bytes:
        block, texts = self._last, self._texts
        self._texts, self.size = [], 0
        if len(texts) == 1:
            return block
        lines: list[bytes] | None = b"".join(texts).split(b"\n")
        pieces: list[bytes] = []
        for line in LINE.finditer(block):
            if line[1] is None:
                pieces.append(line[0])
            elif lines is not None:  # all of the text in place of the first `data` line
                pieces += [b"data: %b%b" % (text, line[2]) for text in lines]
                lines = None
        return b"".join(pieces)
