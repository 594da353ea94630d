"""Formats: how to recognise the format of a stream, and which of its events may be merged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from .._sse import Event
from ._rules import Rule
from ._template import Delta, read_delta


@runtime_checkable
class Format(Protocol):
    """A way of streaming text in events."""

    @property
    def name(self) -> str:
        """A name for people to read."""

    @property
    def header(self) -> bytes | None:
        """The name, in lower case, of a header that every response in this format has, and no other
        response. None: there is no such header."""

    @property
    def get_is_replay(self) -> bool:
        """True if the response to a GET is a replay: it is not merged then, because clients skip a
        part of a replay by the numbers of its events."""

    @property
    def exclusive(self) -> bool:
        """True if a stream in this format has no events in other exclusive formats."""

    @property
    def mark(self) -> bytes:
        """Bytes that are in every event that `read` may take for a delta. Once the format is
        detected, other events are not parsed."""

    def recognises(self, event: Event, value: Any) -> bool:
        """Return True if the event, whose data has this value, is in this format."""

    def read(self, event: Event, value: Any) -> Delta | None:
        """Return the event as a delta, which may have a template that never merges.

        Return None if the event is no text delta: it must not wait then.
        """


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class JSONFormat:
    """A format of events with JSON objects as their data."""

    name: str
    recognise: Callable[[Mapping[str, Any]], bool]
    """Return True if an event whose data is this object is in this format."""
    rules: tuple[Rule, ...]
    """The kinds of delta events. The first rule under which an event may be merged counts.
    `JSONTemplate.accepts` decides which two events are merged."""
    mark: bytes = b""
    """Bytes that are in every delta event. Once the format is detected, other events are not
    parsed."""
    header: bytes | None = None
    get_is_replay: bool = False
    exclusive: ClassVar[bool] = True

    def __repr__(self) -> str:
        return f"<format {self.name}>"

    def recognises(self, event: Event, value: Any) -> bool:
        return isinstance(value, dict) and self.recognise(value)

    def read(self, event: Event, value: Any) -> Delta | None:
        return read_delta(self.rules, event, value)
