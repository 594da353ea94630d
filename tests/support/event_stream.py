"""A parser of event streams as in browsers: WHATWG, server-sent events, 9.2.5 and 9.2.6.

It follows the standard word for word, without regard to speed. Tests compare the package with it,
so it shares no code with the package.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

BOM: Final = "\ufeff"


@dataclass(frozen=True, slots=True)
class Event:
    """A dispatched event."""

    type: str
    data: str
    last_event_id: str


class EventStream:
    """The state of the standard's algorithm for interpreting an event stream."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.reconnection_time: int | None = None
        self._data = ""
        self._type = ""
        self._last_event_id_buffer = ""
        self._last_event_id = ""

    def process_line(self, line: str) -> None:
        if line == "":
            self._dispatch()
        elif line.startswith(":"):
            pass  # a comment
        elif ":" in line:
            field, _, value = line.partition(":")
            self._process_field(field, value.removeprefix(" "))
        else:
            self._process_field(line, "")

    def _process_field(self, field: str, value: str) -> None:
        if field == "event":
            self._type = value
        elif field == "data":
            self._data += value + "\n"
        elif field == "id":
            if "\0" not in value:
                self._last_event_id_buffer = value
        elif field == "retry" and re.fullmatch("[0-9]+", value):
            self.reconnection_time = int(value)

    def _dispatch(self) -> None:
        self._last_event_id = self._last_event_id_buffer
        if self._data == "":
            self._type = ""
            return
        data = self._data.removesuffix("\n")
        self.events.append(Event(self._type or "message", data, self._last_event_id))
        self._data = self._type = ""


def parse(stream: bytes) -> list[Event]:
    """Return the events of a whole stream. An event without a blank line after it is dropped."""
    text = stream.decode("utf-8", errors="replace").removeprefix(BOM)
    lines = re.split("\r\n|\n|\r", text)
    reader = EventStream()
    for line in lines[:-1]:  # what follows the last line ending is not a line
        reader.process_line(line)
    return reader.events
