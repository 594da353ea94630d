"""What a format is: how to know it, and which of its events may be merged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from .._sse import Event
from ._rules import Rule
from ._template import Delta, read_delta


@runtime_checkable
class Format(Protocol):
    """One way of streaming text in events."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def header(self) -> bytes | None:
        """A header that only responses of this format have, and without which none is of it."""

    @property
    def get_is_replay(self) -> bool:
        """Whether the answer to a GET tells again what was told before, for clients that skip a
        part of it by its numbers: then it is not merged."""

    @property
    def exclusive(self) -> bool:
        """Whether a stream of it has no events of other such formats."""

    @property
    def mark(self) -> bytes:
        """What is in the bytes of every event that `read` may know; others need not be parsed."""

    def recognises(self, event: Event, value: Any) -> bool:
        """Whether the event, whose data is this value, is of this format; to merge or not."""

    def read(self, event: Event, value: Any) -> Delta | None:
        """The event as one to merge, or as text that may not be; None: it is neither."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class JSONFormat:
    """A format of events with JSON objects as their data, known by what any of them says."""

    name: str
    recognise: Callable[[Mapping[str, Any]], bool]
    """Whether an event with this object as its data is of this format."""
    rules: tuple[Rule, ...]
    """The kinds of its delta events; the first that allows an event counts."""
    mark: bytes = b""
    """What is in the bytes of every delta event: others need not be parsed."""
    header: bytes | None = None
    get_is_replay: bool = False
    exclusive: ClassVar[bool] = True

    def __repr__(self) -> str:
        return f"<format {self.name}>"

    def recognises(self, event: Event, value: Any) -> bool:
        return isinstance(value, dict) and self.recognise(value)

    def read(self, event: Event, value: Any) -> Delta | None:
        return read_delta(self.rules, event, value)
