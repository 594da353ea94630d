"""Runs: adjacent deltas on their way to become one event, and what they have in common.

A run is learned from one event, that is cut into what has to be equal and what may differ: the
delta; values of which the last counts; arrays that are joined; the value of its `id` line; and
spaces before the last brace, which some servers put there at random. What has to be equal is
compared as bytes, so that an event need not be parsed to see that it is one more of the same.

No regular expression is made of it: to compile one takes as long as to look at hundreds of events.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol

from .._sse import Span


class Run(Protocol):
    """Events that become one. Two runs are equal if their events could be in one of them."""

    urgent: bool
    """Whether an event of this kind must not wait."""
    alone: bool
    """Whether no event may be merged with another: each is a run of its own."""
    size: int
    """Bytes of what has been added up, and one for each event: 0 if the run is empty."""

    def add(self, block: bytes) -> bool:
        """Take one more event, if it is one of these, as is seen without parsing it, and may be
        merged."""

    def add_known(self, block: bytes, parts: Parts) -> bool:
        """The same, of an event that has been parsed, and is one of these."""

    def take(self) -> bytes:
        """The one event: the last, with what all of them add up to. The run is empty then."""


class Part(Enum):
    """What may differ."""

    DELTA = auto()
    STRING = auto()  # these three are values of which the last counts
    NUMBER = auto()
    OTHER = auto()
    ARRAY = auto()
    ID = auto()
    SPACES = auto()


Parts = Sequence[tuple[Span, Part]]
"""What may differ, and where it is in an event, from front to back."""


class Delta(NamedTuple):
    """An event that may be merged, and an empty run for it and its like."""

    run: Run
    block: bytes
    parts: Parts


# The body of a JSON string and nothing else: without an unescaped quote, no other structure can
# hide in it. RFC 8259, section 7.
_BODY: Final = re.compile(
    rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+'
)
_PATTERNS: Final = {
    Part.DELTA: _BODY,
    Part.STRING: _BODY,
    Part.NUMBER: re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"),
    Part.OTHER: re.compile(rb"(?!)"),  # it has to be parsed to know where it ends
    Part.ARRAY: re.compile(rb"\[[ ]*\]"),  # so has one that is not empty
    Part.ID: re.compile(rb"[^\r\n\x00]*"),
    Part.SPACES: re.compile(rb" *"),
}
"""What else may be in their place, and is as good."""

# To read a member of an enum takes CPython 3.11 longer than to compare it.
DELTA, STRING, NUMBER, OTHER, ARRAY, *_ = Part
ZERO: Final = ord("0")
VOID: Final = (Part.ARRAY, Part.SPACES)
"""Parts with nothing in them, as a rule."""


def part_of(value: bytes, *, quoted: bool) -> Part:
    """What a value of which the last counts is, as a part."""
    if quoted:
        return Part.STRING
    return Part.NUMBER if _PATTERNS[Part.NUMBER].fullmatch(value) else Part.OTHER


TAGS: Final = frozenset({"<think>", "</think>", "<thinking>", "</thinking>"})
LONGEST_TAG: Final = 100
"""Bytes, were each of its characters escaped, and some space around it."""


class JSONRun:
    """A run of events with JSON as their data. `text`: see `Rule`; `alone`: see `Run`."""

    __slots__ = (
        *("_back", "_bodies", "_elements", "_end", "_folded", "_front", "_key", "_last", "_lead"),
        *("_parts", "_start", "_steps", "_text", "_useful", "alone", "size", "urgent"),
    )

    def __init__(self, block: bytes, parts: Parts, *, text: bool, alone: bool) -> None:
        at, literals = 0, []
        for (start, end), _ in parts:
            literals.append(block[at:start])
            at = end
        literals.append(block[at:])
        self.urgent = False
        self.alone = alone
        self.size = 0
        self._text = text
        kinds = [part for _, part in parts]
        self._key = (text, alone, tuple(literals), tuple(kinds))
        # An empty array, and spaces where there are none, count for nothing until there are some.
        void = [block[start:end] in (b"", b"[]") and part in VOID for (start, end), part in parts]
        self._folded = any(void)
        self._lead, self._steps = _steps(literals, kinds, void)
        # What was around the delta in the event before: often it is all equal, or else it never is.
        self._front: bytes | None = b""
        self._back = b""
        self._useful = True
        self._bodies: list[bytes] = []
        self._elements: dict[int, list[bytes]] = {}  # of arrays, by their number among the parts
        self._last = b""  # the last event, where its delta is, and its parts if it was parsed
        self._start = self._end = 0
        self._parts: Parts | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JSONRun) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def add(self, block: bytes) -> bool:
        front = self._front
        if front and block.startswith(front) and block.endswith(self._back):
            start, end = len(front), len(block) - len(self._back)
            if not _BODY.fullmatch(block, start, end):
                return False
            self._useful = True
        else:
            start, end = self._find(block)
            if not end:
                return False
            if self._useful:
                self._front, self._back, self._useful = block[:start], block[end:], False
            else:
                self._front = None
        body = block[start:end]
        bodies = self._bodies
        # What most bodies are is seen in line: these are the lines that an event costs.
        doubtful = self.alone or not (bodies and body) or b">" in body or b"\\u" in body
        if doubtful and self._text and self._stands_alone(body):
            return False
        bodies.append(body)
        self.size += end - start + 1
        self._last, self._start, self._end, self._parts = block, start, end, None
        return True

    def _find(self, block: bytes) -> tuple[int, int]:
        """Where the delta is; nowhere, 0 and 0, if it is no such event, or cannot be seen to be."""
        if not block.startswith(self._lead):
            return 0, 0
        at, start, end = len(self._lead), 0, 0
        for part, match, literal, length in self._steps:
            stop = -1
            if part is not DELTA:  # most of the others are simple, and found without a pattern
                stop = block.find(literal, at)
                value = block[at:stop]
                if part is NUMBER:
                    simple = value.isdigit() and (value[0] != ZERO or len(value) == 1)
                elif part is STRING:
                    simple = not value or value.isalnum()
                else:
                    simple = value == (b"[]" if part is ARRAY else b"") and part is not OTHER
            if stop < 0 or not simple:
                found = match(block, at)
                if found is None:
                    return 0, 0
                stop = found.end()
                if not block.startswith(literal, stop):
                    return 0, 0
                if part is DELTA:
                    start, end = at, stop
            at = stop + length
        return (start, end) if at == len(block) else (0, 0)

    def add_known(self, block: bytes, parts: Parts) -> bool:
        if self._folded and self._last:  # it has more in it than those before
            self._folded = False
            self._lead, self._steps = _steps(*self._key[2:])
        ((start, end),) = (span for span, part in parts if part is Part.DELTA)
        body = block[start:end]
        if self._text and self._stands_alone(body):
            return False
        for number, (span, part) in enumerate(parts):
            elements = block[span.start + 1 : span.end - 1].strip()
            if part is Part.ARRAY and elements:
                self._elements.setdefault(number, []).append(elements)
                self.size += len(elements) + 1
        self._bodies.append(body)
        self.size += end - start + 1
        self._last, self._start, self._end, self._parts = block, start, end, parts
        return True

    def _stands_alone(self, body: bytes) -> bool:
        """Whether such a delta has to be an event of its own.

        A tag that tells thoughts from text is looked for as a whole delta (pydantic-ai): so none
        may be hidden in a merged one, or come of merging. A first one with nothing to see in it may
        be dropped. An empty one is nothing to merge.
        """
        if self.alone or not body:
            return not body or bool(self._bodies)
        if b">" not in body and b"\\" not in body and body.isascii() and body.strip():
            return False
        text = _decoded(body).strip()
        if text in TAGS or not (text or self._bodies):
            return True
        together = b"".join((*self._bodies, body))
        return len(together) < LONGEST_TAG and _decoded(together).strip() in TAGS

    def take(self) -> bytes:
        block, bodies, elements = self._last, self._bodies, self._elements
        self._bodies, self._elements, self.size = [], {}, 0
        if len(bodies) == 1:
            return block
        if not elements:
            return b"".join((block[: self._start], *bodies, block[self._end :]))
        text = b"".join(bodies)
        pieces: list[bytes] = []
        at = 0
        for number, ((start, end), part) in enumerate(self._parts or self._split(block)):
            if part is Part.DELTA or number in elements:
                value = text if part is Part.DELTA else b"[%b]" % b",".join(elements[number])
                pieces += block[at:start], value
                at = end
        return b"".join((*pieces, block[at:]))

    def _split(self, block: bytes) -> Iterator[tuple[Span, Part]]:
        """The parts of an event that `_find` has found."""
        lead, steps = _steps(*self._key[2:])
        at = len(lead)
        for part, match, _, length in steps:
            found = match(block, at)
            assert found is not None  # or it would not be in the run
            yield Span(at, found.end()), part
            at = found.end() + length


Step = tuple[Part, Callable[[bytes, int], re.Match[bytes] | None], bytes, int]
"""A part, what matches it, and the literal behind it with its length."""


def _steps(
    literals: Sequence[bytes], parts: Sequence[Part], void: Sequence[bool] = ()
) -> tuple[bytes, list[Step]]:
    """What an event begins with, and the steps through the rest of it; the `void` parts are taken
    for a piece of the literals."""
    folded, kinds = [literals[0]], []
    for number, (part, literal) in enumerate(zip(parts, literals[1:], strict=True)):
        if void and void[number]:
            folded[-1] += (b"[]" if part is ARRAY else b"") + literal
        else:
            folded.append(literal)
            kinds.append(part)
    return folded[0], [
        (part, _PATTERNS[part].match, literal, len(literal))
        for part, literal in zip(kinds, folded[1:], strict=True)
    ]


def _decoded(body: bytes) -> str:
    try:
        text: str = json.loads(b'"%b"' % body)
    except ValueError:  # not UTF-8
        return "?"
    return text
