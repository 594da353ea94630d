"""What kinds of delta events there are, said as data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .._sse import Event
from ._values import MISSING, Path, find, is_empty, parse_path


class Paths(NamedTuple):
    """The paths of a rule, by its fields."""

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
    """One kind of delta event: which events are of it, and what may differ between two that merge.

    Paths are written as `choices.0.delta.content`. Whatever is not named here has to be equal, byte
    for byte: what is not known is never merged away.
    """

    delta: str
    """The string that is added to, event by event."""
    event: str | None = None
    """What the `event` field has to say; None: anything, or nothing."""
    where: Mapping[str, Any] = field(default_factory=dict)
    """Values that have to be there; of a set, one."""
    present: Collection[str] = ()
    """What has to be there, whatever it is."""
    ends: Collection[str] = ()
    """What has to be missing, null or empty, or else it is no delta, and must not wait."""
    empty: Collection[str] = ()
    """What has to be missing, null or empty, or else it is not merged."""
    only: Mapping[str, Collection[str]] = field(default_factory=dict)
    """In these objects all members but those named have to be missing, null or empty."""
    single: Collection[str] = ()
    """Arrays that have to have one element."""
    last: Collection[str] = ()
    """What may differ: the last event's counts."""
    join: Collection[str] = ()
    """Arrays that are joined, as the delta is."""
    text: bool = True
    """Whether the delta is text, for a reader. Clients may look for tags in it: see
    `JSONTemplate`."""
    paths: Paths = field(init=False, repr=False, compare=False)
    """All of the above, parsed."""

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
        """Whether the event, whose data is this value, is of this kind, be it mergeable or not."""
        paths = self.paths
        return (
            (self.event is None or event.name == self.event)
            and isinstance(find(value, paths.delta), str)
            and all(_is_one_of(find(value, path), wanted) for path, wanted in paths.where)
            and all(is_empty(find(value, path)) for path in paths.ends)
        )

    def is_mergeable(self, value: Any) -> bool:
        """Whether one that is of this kind may be merged with others."""
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
