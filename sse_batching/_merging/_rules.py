"""What kinds of delta events there are, said as data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._framing import Event
from ._values import MISSING, Path, find, parse_path, says_nothing


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
    empty: Collection[str] = ()
    """What has to be missing, null or empty."""
    only: Mapping[str, Collection[str]] = field(default_factory=dict)
    """In these objects all members but those named have to be missing, null or empty."""
    single: Collection[str] = ()
    """Arrays that have to have one element."""
    last: Collection[str] = ()
    """What may differ: the last event's counts."""
    join: Collection[str] = ()
    """Arrays that are joined, as the delta is."""
    text: bool = True
    """Whether the delta is text, for a reader. Some look for tags in it: see `is_tag`."""

    def tells(self, event: Event, value: Any) -> bool:
        """Whether the event, whose data is this value, is of this kind, be it mergeable or not."""
        return (
            (self.event is None or event.name == self.event)
            and isinstance(_at(value, self.delta), str)
            and all(_is_one_of(_at(value, path), wanted) for path, wanted in self.where.items())
        )

    def fits(self, event: Event, value: Any) -> bool:
        """Whether it may be merged with others, besides."""
        return (
            self.tells(event, value)
            and all(_at(value, path) is not MISSING for path in self.present)
            and all(says_nothing(_at(value, path)) for path in self.empty)
            and all(_has_one(_at(value, path)) for path in self.single)
            and all(_has_only(_at(value, path), names) for path, names in self.only.items())
        )


_PATHS: dict[str, Path] = {}


def path_of(text: str) -> Path:
    """The path that is written so."""
    path = _PATHS.get(text)
    if path is None:
        path = _PATHS[text] = parse_path(text)
    return path


def _at(value: Any, path: str) -> Any:
    return find(value, path_of(path))


def _is_one_of(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, frozenset):
        return isinstance(value, str) and value in wanted
    return type(value) is type(wanted) and bool(value == wanted)


def _has_one(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 1


def _has_only(value: Any, names: Collection[str]) -> bool:
    return isinstance(value, dict) and all(
        name in names or says_nothing(member) for name, member in value.items()
    )
