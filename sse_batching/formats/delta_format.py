"""A format for JSON events of your own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import permutations, product
from typing import Any, ClassVar

from .._merging._rules import Rule
from .._merging._template import Delta, read_delta
from .._merging._values import parse_path
from .._sse import Event


@dataclass(frozen=True, slots=True)
class DeltaFormat:
    """Events whose data is a JSON object with a piece of a text in it.

        DeltaFormat(event="token", delta="text", same=("run_id",))

    is for `event: token`, `data: {"run_id": 7, "text": "Hel"}`. A name may be a path, with dots and
    with numbers of elements: `choices.0.delta.content`.

    *Guaranteed*: only adjacent events are merged, and only if they are equal in everything that
    `delta`, `last` and `join` do not name. An event is not merged with another if any other member
    differs, or is in only one of them. The merged event is the last one, with the text of all.

    Immutable: may be used by any number of streams, tasks and threads.

    Args:
        event: the value of the `event` field. None: the events have no such field.
        delta: the string whose pieces are joined.
        same: members that an event must have to be in this format. They are equal in all events
            that are merged, as is every member that no other argument names.
        last: values that may differ. The merged event has the last one: a number, a time, a running
            total.
        join: arrays whose elements are joined, as the text is.
        type: the value of the member `type`, if events are told apart by this member.

    Raises:
        TypeError, ValueError: an argument is wrong. The message names the argument and the value.
    """

    event: str | None = None
    delta: str = "delta"
    same: Collection[str] = ()
    last: Collection[str] = ()
    join: Collection[str] = ()
    type: str | None = None
    header: ClassVar[None] = None
    mark: ClassVar[bytes] = b""
    get_is_replay: ClassVar[bool] = False
    exclusive: ClassVar[bool] = False
    _rules: tuple[Rule, ...] = field(default=(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("event", "type"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"{name} must be a string, or None; got {value!r}")
        _check_path("delta", self.delta)
        for name in ("same", "last", "join"):
            paths = getattr(self, name)
            if isinstance(paths, str | bytes) or not isinstance(paths, Collection):
                raise TypeError(f"{name} must be a collection of strings; got {paths!r}")
            for path in paths:
                _check_path(name, path)
        differ = (self.delta, *self.last, *self.join)
        for one, other in (*permutations(differ, 2), *product(differ, self.same)):
            if is_within(one, other) or is_within(other, one):
                raise ValueError(
                    f"delta, same, last and join must not overlap; got {one!r} and {other!r}"
                )
        if "type" in (*self.last, *self.join):
            raise ValueError("last and join must not name 'type', which tells events apart")
        rule = Rule(
            delta=self.delta,
            event=self.event or "",
            where={} if self.type is None else {"type": self.type},
            present=tuple(self.same),
            last=tuple(self.last),
            join=tuple(self.join),
        )
        object.__setattr__(self, "_rules", (rule,))

    @property
    def name(self) -> str:
        return f"DeltaFormat({self.event or self.type or self.delta})"

    def recognises(self, event: Event, value: Any) -> bool:
        rule = self._rules[0]
        return rule.matches(event, value) and rule.is_mergeable(value)

    def read(self, event: Event, value: Any) -> Delta | None:
        return read_delta(self._rules, event, value)


def is_within(path: str, other: str) -> bool:
    """Return True if the paths are equal, or if `path` leads into the value at the other path."""
    outer = parse_path(other)
    return parse_path(path)[: len(outer)] == outer


def _check_path(name: str, path: str) -> None:
    if not isinstance(path, str):
        raise TypeError(f"{name} must be the name of a member, or a path; got {path!r}")
    if not path or not all(path.split(".")):
        raise ValueError(f"{name} must be the name of a member, or a path; got {path!r}")
