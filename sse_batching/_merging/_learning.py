"""What a run is learned from: one event, and the rule that fits it."""

from __future__ import annotations

from collections.abc import Sequence

from .._framing import Event, Span
from ._rules import Rule, path_of
from ._runs import Delta, JSONRun, Part, part_of
from ._values import find, locate


def delta_by(rules: Sequence[Rule], event: Event, value: object) -> Delta | None:
    """The delta that the event, whose data is this value, is by the first rule that fits it."""
    for rule in rules:
        if rule.fits(event, value):
            return learn(rule, event)
    return None


def is_text_by(rules: Sequence[Rule], event: Event, value: object) -> bool:
    """Whether there is text for a reader in it, by any of these rules."""
    return any(
        rule.text and rule.tells(event, value) and find(value, path_of(rule.delta))
        for rule in rules
    )


def learn(rule: Rule, event: Event) -> Delta:
    """Cut the event, which the rule fits, into what has to be equal and what may differ."""
    block, offset, text = event.block, event.data[0].start, event.payload()
    delta = path_of(rule.delta)
    last = {path_of(path) for path in rule.last}
    join = {path_of(path) for path in rule.join}
    spans = locate(text, {delta, *last, *join}, offset)
    parts = [(spans[delta], Part.DELTA), (_spaces(text, offset), Part.SPACES)]
    for start, end in (spans[path] for path in last if path in spans):
        quoted = block[start - 1 : start] == b'"'
        parts.append((Span(start, end), part_of(block[start:end], quoted=quoted)))
    # null is no array: what has none is not joined with what has one.
    parts += [
        (spans[path], Part.ARRAY)
        for path in join
        if path in spans and block[spans[path].start] == ord("[")
    ]
    if event.id is not None:
        parts.append((event.id, Part.ID))
    parts.sort(key=lambda part: part[0])
    return Delta(JSONRun(block, parts, text=rule.text), block, parts)


def _spaces(text: str, offset: int) -> Span:
    """Those before the last brace."""
    inside = text.rstrip(" \t\r\n")[:-1]
    return Span(offset + len(inside.rstrip(" ")), offset + len(inside))
