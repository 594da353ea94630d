"""A writer of events, in the style of a server that hypothesis chooses."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from hypothesis import strategies as st

from tests.merging.generators.texts import runs

Data: TypeAlias = dict[str, Any]
T = TypeVar("T")


class Raw(str):
    """The body of a JSON string, already escaped."""

    __slots__ = ()


class Habits(NamedTuple):
    """What the clients of a format accept."""

    line_ends: tuple[str, ...] = ("\n", "\r\n")
    colons: tuple[str, ...] = (": ", ":")
    sse: bool = True
    ids: bool = False
    """The fields `id` and `retry`."""
    comments: bool = True
    both: bool = True
    """Ids and comments in one stream."""


BROWSERS: Final = Habits(ids=True)
STRICT: Final = Habits(ids=True, both=False)
"""The OpenAI SDK for Python fails at a comment after an id."""
GOOGLE: Final = Habits(colons=(": ",), comments=False)
LINE_FEEDS: Final = Habits(line_ends=("\n",))
LINES: Final = Habits(sse=False, comments=False)

ORDERS: Final[list[Callable[[Data], list[str]]]] = [
    list,
    list,
    sorted,
    lambda data: sorted(data, key=lambda key: (key == "type", key)),
    lambda data: list(reversed(data)),
]
QUIRKS: Final = [
    *["none"] * 24,
    "comment",
    "comment inside",
    "extra",
    "retry",
    "order",
    "no id",
]
EXTRAS: Final[list[Data]] = [{"x_new": 1}, {"x_new": 2}, {"x_new": None}, {"x_new": {"a": "ü"}}]


def write_json(value: Any, separators: tuple[str, str], order: Callable[[Data], list[str]]) -> str:
    """Return a value as JSON, with its keys in this order."""
    comma, colon = separators
    if isinstance(value, Raw):
        return f'"{value}"'
    if isinstance(value, dict):
        pairs = (
            f"{json.dumps(key)}{colon}{write_json(value[key], separators, order)}"
            for key in order(value)
        )
        return "{" + comma.join(pairs) + "}"
    if isinstance(value, list):
        return "[" + comma.join(write_json(item, separators, order) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


class Writer:
    """Writes the blocks of one stream into a list."""

    def __init__(self, draw: st.DrawFn, habits: Habits) -> None:
        self.draw = draw
        self.habits = habits
        self.blocks: list[bytes] = []
        self.tick = 0
        """A number that grows with most events. Times and padding depend on it."""
        self.padding = False
        """True: put spaces before the last brace."""
        self.stamp: Callable[[Data], Data] = lambda data: data
        """Add what every event of the stream has, such as a number or a time."""
        self.name: Callable[[Data], str] = lambda data: ""
        """Return the name of an event."""
        self._number = 0
        self._line_end = self.choose(habits.line_ends)
        self._colon = self.choose(habits.colons)
        self._separators = self.choose([(",", ":"), (",", ":"), (", ", ": "), (",", ": ")])
        self._orders = self.choose([[ORDERS[0]], [ORDERS[0]], ORDERS])
        self._order = self.choose(self._orders if len(self._orders) == 1 else ORDERS)
        self._ids = habits.ids and self.choose([False, True])
        self._comments = habits.comments and (habits.both or not self._ids)
        self._name_last = self.choose([False, False, True])

    def choose(self, values: Sequence[T]) -> T:
        return self.draw(st.sampled_from(values))

    def sometimes(self) -> bool:
        return self.choose([False, False, False, True])

    def event(self, data: Data | str, name: str = "") -> None:
        """Write an event in the style of the server, sometimes with a quirk."""
        quirk = self.choose(QUIRKS)
        step = self.choose([0, 1, 1, 2, 13])
        self.tick += step
        if isinstance(data, dict):
            name = name or self.name(data)
            text = self._json(self.stamp(data), quirk)
            if self.padding:
                text = text[:-1] + " " * step + "}"
        else:
            text = data
        if not self.habits.sse:
            self.blocks.append(f"{text}{self._line_end}".encode())
            return
        if quirk == "comment":
            self.comment()
        self._block(self._fields(text, name, quirk))

    def run(self, track: Track) -> None:
        """Write a run of deltas."""
        for text in self.draw(track.texts()):
            self.event(track.delta(Raw(text)))

    def comment(self) -> None:
        if self._comments:
            self._block([self.choose([": ping", ":", ": OPENROUTER PROCESSING"])])

    def _json(self, data: Data, quirk: str) -> str:
        if quirk == "order" and len(self._orders) > 1:
            self._order = self.choose(self._orders)
        if quirk == "extra":
            data = data | self.choose(EXTRAS)
        return write_json(data, self._separators, self._order)

    def _fields(self, text: str, name: str, quirk: str) -> list[str]:
        lines = [f"data{self._colon}{line}" for line in text.split("\n")]
        if name:
            lines.insert(len(lines) if self._name_last else 0, f"event{self._colon}{name}")
        if self._ids and quirk != "no id":
            self._number += 1
            lines.insert(0, f"id{self._colon}{self._number}")
        if quirk == "retry" and self.habits.ids:
            lines.append(f"retry{self._colon}2000")
        if quirk == "comment inside" and self._comments:
            lines.insert(0, ": inside")
        return lines

    def _block(self, lines: list[str]) -> None:
        end = self._line_end
        self.blocks.append("".join(line + end for line in [*lines, ""]).encode())


@dataclass(frozen=True)
class Track:
    """Something whose text comes in deltas: a message, a tool call, a block."""

    delta: Callable[[Raw], Data]
    opening: list[Data] = field(default_factory=list)
    closing: list[Data] = field(default_factory=list)
    texts: Callable[[], st.SearchStrategy[list[str]]] = runs


def interleave(
    writer: Writer, tracks: Sequence[Track | Callable[[int], Track]], barriers: list[Data]
) -> None:
    """Write runs of several tracks that alternate, with barriers between some of the runs.

    A track may be a function that takes the number of tracks that were opened before.
    """
    opened: dict[int, Track] = {}
    turns = st.lists(st.integers(0, len(tracks) - 1), max_size=6)
    for turn in writer.draw(turns):
        if turn not in opened:
            track = tracks[turn]
            opened[turn] = track if isinstance(track, Track) else track(len(opened))
            for data in opened[turn].opening:
                writer.event(data)
        writer.run(opened[turn])
        if barriers and writer.sometimes():
            writer.event(writer.choose(barriers))
    for track in opened.values():
        for data in track.closing:
            writer.event(data)
