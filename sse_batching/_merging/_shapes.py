"""What two events have to have in common to be merged, learned from one of them.

An event is cut into what has to be equal and what may differ: the delta; values of which the last
counts; arrays that are joined; the value of its `id` line; and spaces before the last brace, which
some servers put there at random. What has to be equal is compared as bytes.

So an event need not be parsed to see whether it is one more of the same. Nor is a regular
expression made of each shape: to compile one takes as long as to look at hundreds of events.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol

from .._framing import Event, Span
from ._rules import Rule, path_of
from ._values import locate


class Part(Enum):
    """What may differ."""

    DELTA = auto()
    LAST = auto()
    ARRAY = auto()
    ID = auto()
    SPACES = auto()


# The body of a JSON string and nothing else: without an unescaped quote, no other structure can
# hide in it. RFC 8259, section 7.
_BODY: Final = re.compile(rb'(?:[^"\\\x00-\x1f]+|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+')
_NUMBER: Final = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_EMPTY_ARRAY: Final = re.compile(rb"\[[ ]*\]")
_ID: Final = re.compile(rb"[^\r\n\x00]*")
_SPACES: Final = re.compile(rb" *")
_NOTHING: Final = re.compile(rb"(?!)")


def _pattern(part: Part, value: bytes, before: bytes) -> re.Pattern[bytes]:
    """What else may be in the place of this value, and needs no parsing to be as good."""
    if part is Part.DELTA or (part is Part.LAST and before.endswith(b'"')):
        return _BODY
    if part is Part.LAST:
        return _NUMBER if _NUMBER.fullmatch(value) else _NOTHING
    if part is Part.ARRAY:
        return _EMPTY_ARRAY
    return _ID if part is Part.ID else _SPACES


TAGS: Final = frozenset({"<think>", "</think>", "<thinking>", "</thinking>"})

# What `is_tag` and `is_blank` need not decode: nearly all there is.
_MAYBE_TAG: Final = re.compile(rb"think|\\u")
_SURELY_TO_BE_SEEN: Final = re.compile(rb"[!-\[\]-~]")


def is_tag(body: bytes) -> bool:
    """Whether the delta is one that clients look for, to tell thoughts from text: it has to be an
    event of its own (pydantic-ai wants it to be exactly this)."""
    return _MAYBE_TAG.search(body) is not None and _decoded(body).strip() in TAGS


def is_blank(body: bytes) -> bool:
    """Whether there is nothing to see in the delta. Clients may drop it when it comes first."""
    return _SURELY_TO_BE_SEEN.match(body) is None and not _decoded(body).strip()


def _decoded(body: bytes) -> str:
    try:
        text: str = json.loads(b'"%b"' % body)
    except ValueError:  # not UTF-8
        return "?"
    return text


CAPTURED: Final = {Part.DELTA, Part.ARRAY}

Places = list[Span]
"""Where the delta and the arrays that are joined are in an event, from front to back."""


class Delta(NamedTuple):
    """An event that may be merged with others of its shape."""

    shape: Shape
    block: bytes
    places: Places


class Shape(Protocol):
    """What events have in common that may be merged with each other. Two that are equal are one."""

    urgent: bool
    """Whether an event of this shape must not wait."""

    def find(self, block: bytes) -> Places | None:
        """The places in another event of this shape.

        None: it is of another, or of this one, but that is not seen without parsing it.
        """

    def stands_alone(self, block: bytes, places: Places, *, first: bool) -> bool:
        """Whether it must not be merged for what its delta says, or must not be the `first`."""

    def merge(self, blocks: Sequence[bytes], places: Sequence[Places]) -> bytes:
        """One event in place of these: the last, with what all of them add."""


class JSONShape:
    """The shape of events with JSON as their data."""

    __slots__ = ("_arrays", "_delta", "_key", "_lead", "_steps", "_text", "urgent")

    def __init__(self, rule: Rule, block: bytes, parts: Iterable[tuple[Span, Part]]) -> None:
        at, kinds, literals, patterns = 0, [], [], []
        for span, kind in parts:
            literals.append(block[at : span.start])
            patterns.append(_pattern(kind, block[slice(*span)], literals[-1]))
            kinds.append(kind)
            at = span.end
        literals.append(block[at:])
        captured = [kind for kind in kinds if kind in CAPTURED]
        self.urgent = False
        self._text = rule.text
        # Which of the places are that of the delta, and those of arrays.
        self._delta = captured.index(Part.DELTA)
        self._arrays = [at for at, kind in enumerate(captured) if kind is Part.ARRAY]
        self._key = (id(rule), tuple(literals), tuple(kinds))
        self._lead = literals[0]
        self._steps = [
            (pattern.match, literal, len(literal), kind in CAPTURED)
            for pattern, literal, kind in zip(patterns, literals[1:], kinds, strict=True)
        ]

    def find(self, block: bytes) -> Places | None:
        if not block.startswith(self._lead):
            return None
        at, places = len(self._lead), []
        for match, literal, length, captured in self._steps:
            found = match(block, at)
            if found is None:
                return None
            end = found.end()
            if not block.startswith(literal, end):
                return None
            if captured:
                places.append(Span(at, end))
            at = end + length
        return places if at == len(block) else None

    def stands_alone(self, block: bytes, places: Places, *, first: bool) -> bool:
        if not self._text:
            return False
        body = block[slice(*places[self._delta])]
        return is_tag(body) or (first and is_blank(body))

    def merge(self, blocks: Sequence[bytes], places: Sequence[Places]) -> bytes:
        values = [
            [block[slice(*where[at])] for block, where in zip(blocks, places, strict=True)]
            for at in range(len(places[-1]))
        ]
        joined = [
            _join_arrays(arrays) if at in self._arrays else b"".join(arrays)
            for at, arrays in enumerate(values)
        ]
        pieces: list[bytes] = []
        at, last = 0, blocks[-1]
        for (start, end), value in zip(places[-1], joined, strict=True):
            pieces += last[at:start], value
            at = end
        return b"".join((*pieces, last[at:]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JSONShape) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def _join_arrays(arrays: Iterable[bytes]) -> bytes:
    insides = (array[1:-1].strip() for array in arrays)
    return b"[" + b",".join(inside for inside in insides if inside) + b"]"


def learn(rule: Rule, event: Event, text: str) -> Delta:
    """What others of its shape have too. The rule fits the event, whose data is `text`."""
    block, offset = event.block, event.data[0].start
    delta = path_of(rule.delta)
    last = {path_of(path) for path in rule.last}
    join = {path_of(path) for path in rule.join}
    spans = locate(text, {delta, *last, *join}, offset)
    parts = [(spans[delta], Part.DELTA), (_spaces(text, offset), Part.SPACES)]
    parts += [(spans[path], Part.LAST) for path in last if path in spans]
    # null is no array: what has none is not joined with what has one.
    parts += [
        (spans[path], Part.ARRAY)
        for path in join
        if path in spans and block[spans[path].start] == ord("[")
    ]
    if event.id is not None:
        parts.append((event.id, Part.ID))
    parts.sort(key=lambda part: part[0])
    places = [span for span, part in parts if part in CAPTURED]
    return Delta(JSONShape(rule, block, parts), block, places)


def _spaces(text: str, offset: int) -> Span:
    """Those before the last brace."""
    inside = text.rstrip(" \t\r\n")[:-1]
    return Span(offset + len(inside.rstrip(" ")), offset + len(inside))
