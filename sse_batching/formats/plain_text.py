"""Events whose data is text, and nothing but text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from .._merging._pattern import Parts
from .._merging._template import MAY_WAIT, Delta, Template
from .._sse import Event, is_one_block, read_event

HALF_A_CHARACTER: Final = re.compile(rb"[\x80-\xbf]")
"""The first byte of a text that begins inside a character. A client gets two halves of a character
that two events have cut, and would get the whole character of a merged event."""

LINE: Final = re.compile(rb"(data(?=[:\r\n]))?[^\r\n]*(\r\n|\n|\r)")


@dataclass(frozen=True, slots=True)
class PlainText:
    """Events such as `data: token`, whose text is joined. Opt-in: `"auto"` does not include it.

        SSEBatchingMiddleware(app, merge=formats.PlainText())

    Nothing in such a stream shows that two events may be joined: a client may take each event for a
    line, for an item, or for all of the text so far. So use this format only for streams whose
    events you know to be pieces of one text.

    *Guaranteed*: only adjacent events with the same event type and the same fields are merged. The
    merged event has the last `id`. An event whose data is empty, or looks like JSON or like a
    sentinel (begins with `{` or `[`), is not merged and goes out at once.

    Immutable: may be used by any number of streams, tasks and threads.
    """

    name: ClassVar[str] = "plain_text"
    header: ClassVar[None] = None
    mark: ClassVar[bytes] = b""
    get_is_replay: ClassVar[bool] = False
    exclusive: ClassVar[bool] = False

    def recognises(self, event: Event, value: Any) -> bool:
        """Return True: the format is used only where the user asks for it."""
        return True

    def read(self, event: Event, value: Any) -> Delta | None:
        return Delta(_TextTemplate(event), ()) if _is_text(event) else None


def _text(event: Event) -> bytes:
    return b"\n".join(event.block[slice(*span)] for span in event.data)


def _is_text(event: Event) -> bool:
    text = _text(event)
    return event.plain and text != b"" and not text.lstrip().startswith((b"{", b"["))


def _name_and_fields(event: Event) -> tuple[str, bool]:
    """Return what has to be equal in two events to merge them: the event type, and whether there is
    an `id`."""
    return event.name, event.id is not None


class _TextTemplate:
    """The template of events with the same event type, all with an `id` or all without an `id`."""

    __slots__ = ("_last", "_name_and_fields", "_texts", "never_merges", "size", "urgency")

    def __init__(self, event: Event) -> None:
        self.urgency = MAY_WAIT
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
        text = _text(event)
        if HALF_A_CHARACTER.match(text):
            return False
        self._texts.append(text)
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
            elif lines is not None:  # put the whole text in place of the first `data` line
                pieces += [b"data: %b%b" % (text, line[2]) for text in lines]
                lines = None
        return b"".join(pieces)
