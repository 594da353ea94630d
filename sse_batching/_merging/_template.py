"""Templates: what the events of a run have in common, and what may differ between them.

A *run* is a row of adjacent deltas that become one event. Its template is learned from one event,
which is cut into literals and parts. Literals have to be equal, byte for byte, in all events of the
run. Parts may differ: the delta, arrays that are joined, values that the last event decides, the
value of the `id` line, and the spaces before the last brace (Anthropic puts a random number of
spaces there). An event that fits the template as bytes is not parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple, Protocol

from .._sse import Event, Span
from ._pattern import (
    ARRAY,
    DELTA,
    DELTA_BODY,
    ID,
    SPACES,
    Parts,
    Pattern,
    empty_parts,
    kind_of_value,
)
from ._rules import Rule
from ._values import find, locate

TAGS: Final = frozenset({"<think>", "</think>", "<thinking>", "</thinking>"})
LONGEST_TAG: Final = 100
"""Bytes of a tag with each of its characters escaped, and with some space around it."""

PLAINLY_NO_TAG: Final = re.compile(rb" *[!-;=-\[\]-~]")
"""The beginning of most bodies, which are neither blank nor a tag. A body that begins with `<`, an
escape or a character outside ASCII has to be decoded."""


class Urgency(IntEnum):
    """How long what is ready may wait."""

    MAY_WAIT = 0
    """As long as any chunk."""
    HURRY = 1
    """Not at all, as long as such events are rare: there is an event that is no delta."""
    AT_ONCE = 2
    """Not at all: there is an event that `flush_on` names."""


# CPython 3.11 takes longer to look up a member of an enum than to use it.
MAY_WAIT, HURRY, AT_ONCE = Urgency


class Template(Protocol):
    """What the events of a run have in common. The events of the current run gather in it."""

    urgency: Urgency
    """How long an event with this template may wait."""
    never_merges: bool
    """True if every event with this template stays an event of its own."""
    size: int
    """Bytes of text and of array elements in the current run, plus one for each event and array. 0
    if there is no run."""

    def accepts(self, other: Template) -> bool:
        """Return True if an event with the other template may be added to this one.

        This is the policy of merging. For JSON: two deltas become one event only if their templates
        have the same literals, and the same kinds of parts between them.
        """

    def add(self, block: bytes, parts: Parts | None = None) -> bool:
        """Add an event to the run. Return False if it does not fit, or has to stay separate.

        `parts` are those of the event, if it has been parsed and its template is accepted. Without
        them the event is compared with the template as bytes, so False may also mean that only a
        parser can tell whether it fits.
        """

    def take(self) -> bytes:
        """End the run. Return the merged event: the last one, with the text of all."""


class Delta(NamedTuple):
    """A delta event that has been parsed: its parts, and a template that was learned from it."""

    template: Template
    parts: Parts


class JSONTemplate:
    """A template of events with JSON as their data.

    `text`: the delta is text for a reader (see `Rule.text`).
    """

    __slots__ = (
        "_bodies",
        "_elements",
        "_kinds",
        "_last",
        "_literals",
        "_pattern",
        "_prefix",
        "_prefix_hit",
        "_suffix",
        "_text",
        "never_merges",
        "size",
        "urgency",
    )

    def __init__(self, block: bytes, parts: Parts, *, text: bool, never_merges: bool) -> None:
        at, literals = 0, []
        for (start, end), _ in parts:
            literals.append(block[at:start])
            at = end
        literals.append(block[at:])
        self._literals = literals
        self._kinds = [kind for _, kind in parts]
        self._pattern = Pattern(literals, self._kinds, empty_parts(block, parts))
        self._text = text
        self.never_merges = never_merges
        self.urgency = MAY_WAIT
        # Cache: the bytes before and after the delta of an earlier event. To compare them is faster
        # than to match the pattern. In some streams they are the same for many events. In others
        # they differ in every event: `_prefix` is None then.
        self._prefix: bytes | None = b""
        self._suffix = b""
        self._prefix_hit = True
        # The current run.
        self.size = 0
        self._bodies: list[bytes] = []
        self._elements: dict[int, list[bytes]] = {}
        """The elements of arrays, by the number of the part."""
        self._last: tuple[bytes, int, int, Parts | None] = (b"", 0, 0, None)
        """The last event, where its delta begins and ends, and its parts if it has been parsed."""

    def accepts(self, other: Template) -> bool:
        return (
            isinstance(other, JSONTemplate)
            and self._literals == other._literals
            and self._kinds == other._kinds
        )

    def add(self, block: bytes, parts: Parts | None = None) -> bool:
        prefix = self._prefix
        if parts is not None:
            self._unfold(block, parts)
            ((start, end),) = (span for span, kind in parts if kind is DELTA)
            if not DELTA_BODY.fullmatch(block, start, end):
                return False
        elif prefix and block.startswith(prefix) and block.endswith(self._suffix):
            start, end = len(prefix), len(block) - len(self._suffix)
            if not DELTA_BODY.fullmatch(block, start, end):
                return False
            self._prefix_hit = True
        else:
            start, end = self._pattern.find_delta(block)
            if not end:
                return False
            if self._prefix_hit:
                self._prefix, self._suffix, self._prefix_hit = block[:start], block[end:], False
            else:
                self._prefix = None
        body = block[start:end]
        bodies = self._bodies
        # Inlined, because every event comes here: most bodies need no closer look. A tag ends with
        # `>`, which may be written as \u003e.
        suspicious = not (bodies and body) or b">" in body or b"\\u003" in body
        if suspicious and self._text and self._must_stay_separate(body):
            return False
        bodies.append(body)
        self.size += end - start + 1
        if parts is not None:
            self._add_elements(block, parts)
        self._last = block, start, end, parts
        return True

    def _unfold(self, block: bytes, parts: Parts) -> None:
        """Compile the pattern anew if a folded part is not empty in this event."""
        folded = self._pattern.folded & empty_parts(block, parts)
        if folded != self._pattern.folded:
            self._pattern = Pattern(self._literals, self._kinds, folded)

    def _add_elements(self, block: bytes, parts: Parts) -> None:
        """Add the elements of the event's arrays to those of the run."""
        for number, ((start, end), kind) in enumerate(parts):
            elements = block[start + 1 : end - 1].strip()
            if kind is ARRAY and elements:
                self._elements.setdefault(number, []).append(elements)
                self.size += len(elements) + 1

    def _must_stay_separate(self, body: bytes) -> bool:
        """Return True if a delta with this body may not be added to the run.

        pydantic-ai recognises thoughts by a delta that consists of a tag and nothing else. So a tag
        must not be hidden in a merged delta, and merging must not put the pieces of a tag together.
        Some clients drop a blank delta that comes first, so a run must not begin with a blank
        delta. An empty delta stays separate, because it adds nothing. Otherwise a template that
        never merges takes any body: each of its runs has one event.
        """
        if self.never_merges or not body:
            return not body
        bodies = self._bodies
        if not PLAINLY_NO_TAG.match(body):
            text = _decoded(body).strip()
            if not text or text in TAGS:
                return True
        if not bodies or PLAINLY_NO_TAG.match(bodies[0]):
            return False
        # No body in a run is empty. To join a long run for each delta would take quadratic time.
        if len(bodies) >= LONGEST_TAG or sum(map(len, bodies)) + len(body) >= LONGEST_TAG:
            return False
        return _decoded(b"".join((*bodies, body))).strip() in TAGS

    def take(self) -> bytes:
        block, start, end, parts = self._last
        bodies, elements = self._bodies, self._elements
        self._bodies, self._elements, self.size = [], {}, 0
        if len(bodies) == 1:
            return block
        if not elements:
            return b"".join((block[:start], *bodies, block[end:]))
        values = {number: b"[%b]" % b",".join(joined) for number, joined in elements.items()}
        values[self._kinds.index(DELTA)] = b"".join(bodies)
        pieces: list[bytes] = []
        at = 0
        for number, (span, _) in enumerate(
            parts or Pattern(self._literals, self._kinds).split(block)
        ):
            if number in values:
                pieces += block[at : span.start], values[number]
                at = span.end
        return b"".join((*pieces, block[at:]))


def _decoded(body: bytes) -> str:
    try:
        text: str = json.loads(b'"%b"' % body)
    except ValueError:  # not UTF-8
        return "?"
    return text


# Learning a template from an event.


def read_delta(rules: Sequence[Rule], event: Event, value: Any) -> Delta | None:
    """Return the event as a delta, by the first rule under which it may be merged.

    `value` is the JSON value of its data. Text that may not be merged is a delta as well, with a
    template that never merges. Return None if the event is no delta, and no text either.
    """
    matching = [rule for rule in rules if rule.matches(event, value)]
    for rule in matching:
        if rule.is_mergeable(value):
            return _learn(rule, event, value)
    for rule in matching:
        if rule.text and find(value, rule.paths.delta):
            return _learn(rule, event, value, never_merges=True)
    return None


def _learn(rule: Rule, event: Event, value: Any, *, never_merges: bool = False) -> Delta:
    """Cut the event into literals and parts."""
    block, offset, text, paths = event.block, event.data[0].start, event.payload(), rule.paths
    spans = locate(text, value, (paths.delta, *paths.last, *paths.join), offset)
    parts = [(spans[paths.delta], DELTA), (_padding(text, offset), SPACES)]
    for path, span in spans.items():
        if path in paths.last:
            parts.append((span, kind_of_value(block, span)))
        # null is no array: an event without an array is not joined with one that has an array.
        elif path in paths.join and isinstance(find(value, path), list):
            parts.append((span, ARRAY))
    if event.id is not None:
        parts.append((event.id, ID))
    parts.sort(key=lambda part: part[0])
    template = JSONTemplate(block, parts, text=rule.text, never_merges=never_merges)
    return Delta(template, parts)


def _padding(text: str, offset: int) -> Span:
    """Return where the spaces before the last brace are."""
    inside = text.rstrip(" \t\r\n")[:-1]
    return Span(offset + len(inside.rstrip(" ")), offset + len(inside))
