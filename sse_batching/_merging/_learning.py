"""What a run is learned from: one event, and the rule that fits it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._sse import Event, Span
from ._rules import Rule
from ._runs import Delta, JSONRun, Part, part_of
from ._values import find, locate


def delta_by(rules: Sequence[Rule], event: Event, value: Any) -> Delta | None:
    """The delta that the event, whose data is this value, is by the first rule that allows it.

    Text that may not be merged is a delta, too, for a run of its own. None: it is no text, and no
    delta.
    """
    told = [rule for rule in rules if rule.tells(event, value)]
    for rule in told:
        if rule.allows(value):
            return learn(rule, event, value)
    for rule in told:
        if rule.text and find(value, rule.paths.delta):
            return learn(rule, event, value, alone=True)
    return None


def learn(rule: Rule, event: Event, value: Any, *, alone: bool = False) -> Delta:
    """Cut the event, whose data is this value, into what has to be equal and what may differ."""
    block, offset, text, paths = event.block, event.data[0].start, event.payload(), rule.paths
    wanted = (paths.delta, *paths.last, *paths.join)
    spans = locate(text, value, wanted, offset)
    parts = [(spans[paths.delta], Part.DELTA), (_spaces(text, offset), Part.SPACES)]
    for path, span in spans.items():
        start, end = span
        if path in paths.last:
            quoted = block[start - 1 : start] == b'"'
            parts.append((span, part_of(block[start:end], quoted=quoted)))
        # null is no array: what has none is not joined with what has one.
        elif path in paths.join and isinstance(find(value, path), list):
            parts.append((span, Part.ARRAY))
    if event.id is not None:
        parts.append((event.id, Part.ID))
    parts.sort(key=lambda part: part[0])
    return Delta(JSONRun(block, parts, text=rule.text, alone=alone), block, parts)


def _spaces(text: str, offset: int) -> Span:
    """Those before the last brace."""
    inside = text.rstrip(" \t\r\n")[:-1]
    return Span(offset + len(inside.rstrip(" ")), offset + len(inside))
