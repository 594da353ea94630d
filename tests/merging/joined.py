"""The meaning of events, which does not depend on the number of deltas that their text came in.

This is an oracle for tests with real clients. It works on the objects that a client made of the
events, not on bytes. It shares nothing with the package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Event: TypeAlias = dict[str, Any]
Path: TypeAlias = tuple[str | int, ...]
"""A path in an event. The index 0 stands for the only element of a list."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Where the events of a format have values that merging changes."""

    texts: Sequence[Path]
    """Strings that are joined. Not more than one of them may have text in it."""
    is_delta: Callable[[Event], bool]
    """Return False for an event that clients need unmerged, although it may have text."""
    lists: Sequence[Path] = ()
    """Lists that are joined."""
    latest: Sequence[Path] = ()
    """Values that differ between deltas. The last one counts."""


@dataclass(slots=True)
class Entry:
    """An event, or a run of adjacent events that differ only in their text."""

    rest: Event
    is_delta: bool
    texts: dict[Path, str] = field(default_factory=dict)
    lists: dict[Path, list[Any]] = field(default_factory=dict)
    latest: dict[Path, Any] = field(default_factory=dict)

    def joins(self, other: Entry) -> bool:
        if not (self.is_delta and other.is_delta) or self.rest != other.rest:
            return False
        return self.texts.keys() == other.texts.keys() or not (self.texts and other.texts)

    def append(self, other: Entry) -> None:
        for path, text in other.texts.items():
            self.texts[path] = self.texts.get(path, "") + text
        for path, items in other.lists.items():
            self.lists[path] = self.lists.get(path, []) + items
        self.latest = other.latest


def joined(events: Iterable[Event], shape: Shape) -> list[object]:
    """Return the events in order, with each run of adjacent deltas as one event."""
    entries: list[Entry] = []
    for event in events:
        entry = split_entry(event, shape)
        if entries and entries[-1].joins(entry):
            entries[-1].append(entry)
        else:
            entries.append(entry)
    return [(entry.rest, entry.texts, entry.lists, entry.latest) for entry in entries]


def split_entry(event: Event, shape: Shape) -> Entry:
    """Split an event into its text and the rest. The event's dictionaries are changed."""
    is_delta = shape.is_delta(event)
    texts = {path: pop_path(event, path, str | None) for path in shape.texts}
    lists = {path: pop_path(event, path, list | None) for path in shape.lists}
    latest = {path: pop_path(event, path, object) for path in shape.latest}
    has_place = any(isinstance(text, str) for text in texts.values())
    return Entry(
        rest=event,
        is_delta=is_delta and has_place and sum(map(bool, texts.values())) <= 1,
        texts={path: text for path, text in texts.items() if text},
        lists={path: items for path, items in lists.items() if items},
        latest=latest,
    )


def pop_path(event: Event, path: Path, kind: Any) -> Any:
    """Remove and return the value at `path`. Return None if there is no value of this kind."""
    holder: Any = event
    for step in path[:-1]:
        if isinstance(step, int):
            holder = holder[0] if isinstance(holder, list) and len(holder) == 1 else None
        else:
            holder = holder.get(step) if isinstance(holder, dict) else None
    name = path[-1]
    if not isinstance(holder, dict) or not isinstance(holder.get(name), kind):
        return None
    return holder.pop(name, None)


def with_whole_characters(value: Any) -> Any:
    """Return the value with surrogate pairs joined whose halves came in two deltas."""
    if isinstance(value, str):
        if value.isascii():
            return value
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    if isinstance(value, Mapping):
        return {
            with_whole_characters(key): with_whole_characters(item) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(with_whole_characters(item) for item in value)
    return value
