"""The meaning of a stream to a client: a slow and simple reference that does not merge bytes.

`accumulate` returns the same for two streams that differ only in the number of events that a run of
deltas came in. So `accumulate(merged) == accumulate(original)` has to hold for every stream.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from tests.merging.deltas import Data, Delta, Path, at, delta_of

TAGS: Final = {"<think>", "</think>", "<thinking>", "</thinking>"}


class Text(NamedTuple):
    """A run of adjacent deltas with equal keys, joined."""

    name: str
    """The name of the event, from its `event` field."""
    around: str
    """The key: all of the event except for the text, the lists and the values that may differ."""
    where: Path | None
    """The path of the text. None as long as there is no text."""
    text: str
    arrays: dict[Path, list[Any]]
    last: dict[Path, Any]
    id: str
    """The last event id that the client has after the run."""


class Event(NamedTuple):
    """An event that is not merged."""

    name: str
    data: str
    id: str


class Other(NamedTuple):
    """What is between the events: a comment, a `retry` field, an unfinished event."""

    kind: str
    value: str


Item: TypeAlias = Text | Event | Other


def accumulate(format: str, body: bytes) -> list[Item]:
    """Return the meaning of a stream: its events in order, with each run of adjacent deltas as one.

    The first event is never merged. It tells the client that the answer has begun, and some SDKs
    take fields from the first event only.
    """
    items: list[Item] = []
    first = True
    for item in _items(format, body):
        if isinstance(item, Event) and first:
            items.append(item)
        elif isinstance(item, Event):
            _append(items, _text(format, item) or item)
        else:
            items.append(item)
        first = first and not isinstance(item, Event)
    return items


def segments(format: str, body: bytes) -> list[str]:
    """Return the texts of the runs of adjacent deltas, in order, without the first event."""
    return [item.text for item in accumulate(format, body) if isinstance(item, Text)]


def delta_texts(format: str, body: bytes) -> list[str]:
    """Return the text of each delta."""
    events = (item for item in _items(format, body) if isinstance(item, Event))
    return [text.text for event in events if (text := _text(format, event)) is not None]


def lone_tags(format: str, body: bytes) -> list[str]:
    """Return the deltas that consist of a thinking tag: some clients look for such deltas."""
    return [tag for text in delta_texts(format, body) if (tag := text.strip()) in TAGS]


def _append(items: list[Item], item: Item) -> None:
    """Add an item, or join it to the last one if both are deltas with the same key."""
    before = items[-1] if items else None
    if not (isinstance(item, Text) and isinstance(before, Text) and _same_key(before, item)):
        items.append(item)
        return
    items[-1] = item._replace(
        where=before.where or item.where,
        text=before.text + item.text,
        arrays={path: before.arrays[path] + more for path, more in item.arrays.items()},
        last={**before.last, **item.last},
    )


def _same_key(one: Text, other: Text) -> bool:
    """Return True if a client appends both texts to the same string. A delta without text fits."""
    if None not in (one.where, other.where) and one.where != other.where:
        return False
    keys = [(text.name, text.around, text.arrays.keys()) for text in (one, other)]
    return keys[0] == keys[1]


def _text(format: str, event: Event) -> Text | None:
    """Return an event as a delta, or None."""
    if format == "plain_text":
        whole = not event.data or event.data.startswith(("{", "["))
        return None if whole else Text(event.name, "", (), event.data, {}, {}, event.id)
    try:
        data = json.loads(event.data)
    except ValueError:
        return None
    delta = delta_of(format, data)
    if delta is None:
        return None
    return Text(
        event.name,
        _around(data, delta),
        delta.text if at(data, delta.text) else None,
        at(data, delta.text),
        {path: at(data, path) for path in delta.arrays},
        {path: at(data, path) for path in delta.last if path[0] in data},
        event.id,
    )


def _around(data: Data, delta: Delta) -> str:
    """Return the key of a delta, as JSON with sorted names."""
    rest: Any = copy.deepcopy(data)
    for path in (delta.text, *delta.empty, *delta.arrays, *delta.last):
        parent = at(rest, path[:-1])
        if path in delta.last:
            parent.pop(path[-1], None)
        else:
            parent[path[-1]] = []
    return json.dumps(rest, sort_keys=True)


def _items(format: str, body: bytes) -> Iterator[Event | Other]:
    return _lines_of_json(body) if format == "ollama" else _event_stream(body)


def _lines_of_json(body: bytes) -> Iterator[Event | Other]:
    *lines, rest = body.split(b"\n")
    for line in lines:
        yield Event("", line.removesuffix(b"\r").decode(), "")
    if rest:
        yield Other("unfinished", repr(rest))


def _event_stream(body: bytes) -> Iterator[Event | Other]:
    """Yield the events that the standard dispatches, and what is between them."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    name, id_ = "message", ""
    data: list[str] = []
    start = 0
    for line in re.finditer(rb"([^\r\n]*)(\r\n|\n|\r)", body):
        if line[1]:
            field, _, value = line[1].decode("utf-8", "replace").partition(":")
            value = value.removeprefix(" ")
            if field == "data":
                data.append(value)
            elif field == "event":
                name = value or "message"
            elif field == "id" and "\0" not in value:
                id_ = value
            elif field == "" or (field == "retry" and value.isdecimal()):
                yield Other(field or "comment", value)
            continue
        if data:
            yield Event(name, "\n".join(data), id_)
        name, data, start = "message", [], line.end()
    if rest := body[start:]:
        yield Other("unfinished", repr(rest))
