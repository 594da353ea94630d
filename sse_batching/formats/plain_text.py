"""Events whose data is text, and nothing but text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from .._merging._pattern import Parts
from .._merging._template import Delta, Template
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
        return Delta(_TextTemplate(event), ()) if _is_text(event) else None


def _text(event: Event) -> bytes:
    return b"\n".join(event.block[slice(*span)] for span in event.data)


def _is_text(event: Event) -> bool:
    text = _text(event)
    return event.plain and text != b"" and not text.lstrip().startswith((b"{", b"["))


def _name_and_fields(event: Event) -> tuple[str, bool]:
    """What has to be equal in two events for them to be merged."""
    return event.name, event.id is not None


class _TextTemplate:
    """Events of one type, with the same fields."""

    __slots__ = ("_last", "_name_and_fields", "_texts", "never_merges", "size", "urgent")

    def __init__(self, event: Event) -> None:
        self.urgent = False
        self.never_merges = False
        self.size = 0
        self._name_and_fields = _name_and_fields(event)
        self._texts: list[bytes] = []
        self._last = b""

    def accepts(self, other: Template) -> bool:
        return isinstance(other, _TextTemplate) and self._name_and_fields == other._name_and_fields

    def add(self, block: bytes, parts: Parts | None = None) -> bool:
        event = read_event(block) if is_one_block(block) else None
        if event is None or not _is_text(event) or _name_and_fields(event) != self._name_and_fields:
            return False
        self._texts.append(_text(event))
        self._last = block
        self.size += len(block)
        return True

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
