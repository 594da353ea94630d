"""Rules: kinds of delta events, described as data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .._sse import Event
from ._values import MISSING, Path, find, is_empty, parse_path


class Paths(NamedTuple):
    """The fields of a `Rule`, with their paths parsed."""

    delta: Path
    where: tuple[tuple[Path, Any], ...]
    present: tuple[Path, ...]
    ends: tuple[Path, ...]
    empty: tuple[Path, ...]
    only: tuple[tuple[Path, frozenset[str]], ...]
    single: tuple[Path, ...]
    last: frozenset[Path]
    join: frozenset[Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A kind of delta event: how to recognise the events, and what may differ in events that are
    merged.

    Paths are written as `choices.0.delta.content`. Two events are merged only if they are equal,
    byte for byte, except for the values that `delta`, `last` and `join` name, the value of the `id`
    line, and the spaces before the last brace. So a member that the rule does not know is never
    lost.

    *Empty* means missing, null, or an empty string, array or object.
    """

    delta: str
    """The path of the string that is joined."""
    event: str | None = None
    """The value of the `event` field. Empty: the event has no name. None: any name, or none."""
    where: Mapping[str, Any] = field(default_factory=dict)
    """Values that have to be at these paths. Of a frozenset, any one of its strings."""
    present: Collection[str] = ()
    """Paths that have to exist, with any value."""
    ends: Collection[str] = ()
    """What has to be empty. Otherwise the event is no delta, and must not wait."""
    empty: Collection[str] = ()
    """What has to be empty. Otherwise the event may wait, but is not merged."""
    only: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Objects with the names of the members that may be in them. Other members have to be empty."""
    single: Collection[str] = ()
    """Arrays that must have exactly one element."""
    last: Collection[str] = ()
    """Values that may differ. The merged event has those of the last event."""
    join: Collection[str] = ()
    """Arrays that may differ. Their elements are joined."""
    text: bool = True
    """True if the delta is text for a reader, and not for example the arguments of a tool. Clients
    may look for tags in text: see `JSONTemplate._must_stay_separate`."""
    paths: Paths = field(init=False, repr=False, compare=False)
    """The fields above, with their paths parsed."""

    def __post_init__(self) -> None:
        def parsed(paths: Iterable[str]) -> tuple[Path, ...]:
            return tuple(parse_path(path) for path in paths)

        paths = Paths(
            parse_path(self.delta),
            tuple((parse_path(path), wanted) for path, wanted in self.where.items()),
            parsed(self.present),
            parsed(self.ends),
            parsed(self.empty),
            tuple((parse_path(path), frozenset(names)) for path, names in self.only.items()),
            parsed(self.single),
            frozenset(parsed(self.last)),
            frozenset(parsed(self.join)),
        )
        object.__setattr__(self, "paths", paths)

    def matches(self, event: Event, value: Any) -> bool:
        """Return True if the event is of this kind, mergeable or not. `value`: the JSON value of
        its data."""
        paths = self.paths
        return (
            (self.event is None or event.name == self.event)
            and isinstance(find(value, paths.delta), str)
            and all(_is_one_of(find(value, path), wanted) for path, wanted in paths.where)
            and all(is_empty(find(value, path)) for path in paths.ends)
        )

    def is_mergeable(self, value: Any) -> bool:
        """Return True if an event of this kind, whose data has this value, may be merged."""
        paths = self.paths
        return (
            all(find(value, path) is not MISSING for path in paths.present)
            and all(is_empty(find(value, path)) for path in paths.empty)
            and all(_has_one_element(find(value, path)) for path in paths.single)
            and all(_has_only_members(find(value, path), names) for path, names in paths.only)
        )


def _is_one_of(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, frozenset):
        return isinstance(value, str) and value in wanted
    return type(value) is type(wanted) and bool(value == wanted)


def _has_one_element(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 1


def _has_only_members(value: Any, names: Collection[str]) -> bool:
    return isinstance(value, dict) and all(
        name in names or is_empty(member) for name, member in value.items()
    )
