"""What a client makes of an event stream, and which streams mean the same.

The events are read by the parser of `tests.support`, which follows the standard and shares no code
with the package.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple

from tests.support.event_stream import Event, parse

_LAST_LINE_OF_EVENT: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")


class Item(NamedTuple):
    """An event, or a run of adjacent deltas whose texts are joined."""

    key: str
    """What has to be equal in all deltas of a run. Empty for an event that is no delta."""
    text: str
    last: str
    """What the client keeps from the last event of a run."""


def meaning(merge: str, stream: bytes) -> list[Item]:
    """Return the events of a stream, with each run of adjacent deltas as one item."""
    items: list[Item] = []
    for event in parse(stream):
        item = _item(merge, event)
        if items and item.key and items[-1].key == item.key:
            items[-1] = Item(item.key, items[-1].text + item.text, item.last)
        else:
            items.append(item)
    return items


def _item(merge: str, event: Event) -> Item:
    other = Item("", json.dumps([event.type, event.data]), event.last_event_id)
    if merge == "plain":
        if event.data and event.data[0] not in "{[":
            return Item(event.type, event.data, event.last_event_id)
        return other
    try:
        value = json.loads(event.data)
    except ValueError:
        return other
    if not isinstance(value, dict):
        return other
    if merge == "delta":
        return _without(event, value, value, "text", "at")
    if value.get("type") == "content_block_delta":
        return _without(event, value, value["delta"], "text", "")
    if value.get("object") == "chat.completion.chunk":
        delta = value["choices"][0]["delta"]
        if set(delta) == {"content"}:
            return _without(event, value, delta, "content", "created")
    return other


def _without(event: Event, value: Any, owner: Any, text: str, last: str) -> Item:
    joined = owner.pop(text)
    kept = value.pop(last, None) if last else None
    key = json.dumps([event.type, value], sort_keys=True)
    return Item(key, joined, json.dumps([kept, event.last_event_id]))


def unfinished(stream: bytes) -> bytes:
    """Return what follows the last event of a stream."""
    end = 0
    for blank in _LAST_LINE_OF_EVENT.finditer(stream):
        end = blank.end()
    return stream[end:]


def between_events(stream: bytes) -> bool:
    """Return True if a comment may follow these bytes: no field of the next event is among them."""
    lines = re.split(rb"\r\n|\n|\r", unfinished(stream))
    return all(not line or line.startswith(b":") for line in lines)
