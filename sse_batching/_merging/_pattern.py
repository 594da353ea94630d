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
    """A kind of part: what is in its place, and what the merged event has there."""

    DELTA = auto()
    """The body of a string. The merged event has all of them, joined."""
    STRING = auto()
    """The body of a string. The merged event has the last one."""
    NUMBER = auto()
    """A number. The merged event has the last one."""
    OTHER = auto()
    """Any other JSON value. The merged event has the last one."""
    ARRAY = auto()
    """An array. The merged event has the elements of all of them."""
    ID = auto()
    """The value of the `id` line. The merged event has the last one."""
    SPACES = auto()
    """The spaces before the last brace. The merged event has as many as the last event."""


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
# A delta that begins with the second half of a character is not joined to the first half. A client
# that decodes each event by itself gets two halves, and would get the whole character of a merged
# event. The second half is a low surrogate (RFC 8259, section 7), or a continuation byte of UTF-8.
DELTA_BODY: Final = re.compile(rb"(?!\\u[dD][c-fC-F]|[\x80-\xbf])" + STRING_BODY.pattern)
EXPRESSIONS: Final = {
    DELTA: DELTA_BODY,
    STRING: STRING_BODY,
    NUMBER: re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"),
    OTHER: re.compile(rb"(?!)"),  # matches nothing: only a parser knows where the value ends
    ARRAY: re.compile(rb"\[[ ]*\]"),  # an array with elements has to be parsed as well
    ID: re.compile(rb"[^\r\n\x00]*"),
    SPACES: re.compile(rb" *"),
}
"""What a part may consist of."""


class Pattern:
    """Literals and parts, compiled for comparing events with them.

    `folded`: the numbers of the parts that have been empty in all events so far. They are folded
    into the literals around them, so that one comparison replaces three.
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
        """Return the start and the end of the delta, or (0, 0) if the event does not match."""
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
        """Yield the parts of an event that matches, except for those that are folded."""
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
    """Return the kind of the JSON value at this span: STRING, NUMBER or OTHER."""
    start, end = span
    if block[start - 1 : start] == b'"':
        return STRING
    return NUMBER if EXPRESSIONS[NUMBER].fullmatch(block, start, end) else OTHER
