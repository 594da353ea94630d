"""Patterns: how events of one template are compared as bytes, without parsing them.

A pattern consists of *literals*, which have to be equal in all events, and between them *parts*,
which may differ. It is not compiled into a regular expression: to compile one takes as long as to
compare hundreds of events.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from typing import Final

from .._sse import Span


class Part(Enum):
    """A kind of part."""

    DELTA = auto()
    """The body of the string that is joined."""
    STRING = auto()
    """The body of a string of which the last one counts."""
    NUMBER = auto()
    """A number of which the last one counts."""
    OTHER = auto()
    """Any other JSON value of which the last one counts."""
    ARRAY = auto()
    """An array whose elements are joined."""
    ID = auto()
    """The value of the `id` line. The last one counts."""
    SPACES = auto()
    """The spaces before the last brace."""


Parts = Sequence[tuple[Span, Part]]
"""Where the parts of an event are, from front to back."""

# CPython 3.11 takes longer to look up a member of an enum than to compare it.
DELTA, STRING, NUMBER, OTHER, ARRAY, ID, SPACES = Part
ZERO: Final = ord("0")

# The body of a JSON string. Without an unescaped quote in it, it cannot hide any other structure
# (RFC 8259, section 7).
STRING_BODY: Final = re.compile(
    rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+'
)
EXPRESSIONS: Final = {
    DELTA: STRING_BODY,
    STRING: STRING_BODY,
    NUMBER: re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"),
    OTHER: re.compile(rb"(?!)"),  # matches nothing: only a parser knows where the value ends
    ARRAY: re.compile(rb"\[[ ]*\]"),  # an array with elements has to be parsed as well
    ID: re.compile(rb"[^\r\n\x00]*"),
    SPACES: re.compile(rb" *"),
}
"""What may be in the place of a part."""


class Pattern:
    """Literals and parts, compiled for comparing events with them.

    `folded`: the numbers of the parts that have been empty in all events so far. A folded part is
    compared as a piece of the literals around it, which is faster than to match it.
    """

    __slots__ = ("_lead", "_steps", "folded")

    def __init__(
        self, literals: Sequence[bytes], kinds: Sequence[Part], folded: frozenset[int] = frozenset()
    ) -> None:
        self.folded = folded
        joined, unfolded = [literals[0]], []
        for number, (kind, literal) in enumerate(zip(kinds, literals[1:], strict=True)):
            if number in folded:
                joined[-1] += (b"[]" if kind is ARRAY else b"") + literal
            else:
                joined.append(literal)
                unfolded.append(kind)
        self._lead = joined[0]
        self._steps = [
            (kind, EXPRESSIONS[kind].match, literal, len(literal))
            for kind, literal in zip(unfolded, joined[1:], strict=True)
        ]

    def find_delta(self, block: bytes) -> tuple[int, int]:
        """Return where the delta of an event begins and ends, or (0, 0): no match."""
        if not block.startswith(self._lead):
            return 0, 0
        at, start, end = len(self._lead), 0, 0
        for kind, match, literal, length in self._steps:
            stop = -1
            if kind is not DELTA:  # most other parts are simple, and need no regular expression
                stop = block.find(literal, at)
                value = block[at:stop]
                if kind is NUMBER:
                    simple = value.isdigit() and (value[0] != ZERO or len(value) == 1)
                elif kind is STRING:
                    simple = not value or value.isalnum()
                else:
                    simple = value == (b"[]" if kind is ARRAY else b"") and kind is not OTHER
            if stop < 0 or not simple:
                found = match(block, at)
                if found is None:
                    return 0, 0
                stop = found.end()
                if not block.startswith(literal, stop):
                    return 0, 0
                if kind is DELTA:
                    start, end = at, stop
            at = stop + length
        return (start, end) if at == len(block) else (0, 0)

    def split(self, block: bytes) -> Iterator[tuple[Span, Part]]:
        """Yield the parts of an event that matches, but for folded ones."""
        at = len(self._lead)
        for kind, match, _, length in self._steps:
            found = match(block, at)
            assert found is not None, "the event has to match"
            yield Span(at, found.end()), kind
            at = found.end() + length


def empty_parts(block: bytes, parts: Parts) -> frozenset[int]:
    """Return the numbers of the parts with nothing in them: an empty array, or no spaces."""
    return frozenset(
        number
        for number, ((start, end), kind) in enumerate(parts)
        if (kind is ARRAY and block[start:end] == b"[]") or (kind is SPACES and start == end)
    )


def kind_of_value(block: bytes, span: Span) -> Part:
    """Return the kind of a JSON value of which the last one counts."""
    start, end = span
    if block[start - 1 : start] == b'"':
        return STRING
    return NUMBER if EXPRESSIONS[NUMBER].fullmatch(block, start, end) else OTHER
