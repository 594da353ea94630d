"""Chunks in, fewer events out: what of a stream may be merged, and what must not wait."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from enum import Enum, auto
from functools import partial
from typing import Any, Final

from .._sse import (
    Event,
    EventSplitter,
    LineSplitter,
    Splitter,
    read_event,
    read_first_event,
    read_line,
)
from ._formats import Format
from ._runs import Delta, Run
from ._values import MISSING

STRANGERS: Final = 16
"""So many events of no known format, and none of one: the stream is left alone."""

LONERS: Final = 64
"""So many deltas one after another, each unlike all before it: nothing will be merged here."""

KNOWN_RUNS: Final = 4
"""How many kinds of deltas are tried before an event is parsed: several keys may take turns."""


class State(Enum):
    """What is known about the stream."""

    LOOKING = auto()
    """Which format it is, if any, is yet to be seen."""
    MERGING = auto()
    WATCHING = auto()
    """It is none to merge. Its events are looked at, for those that must not wait."""
    PASSING = auto()
    """Nothing is looked at any more."""


class Place(Enum):
    """Where in the stream the next byte is."""

    BETWEEN = auto()
    """At the beginning of a block."""
    WITHIN = auto()
    """In a block whose first bytes are held."""
    REST = auto()
    """In a block whose first bytes are out already: no event is to be made of the rest."""


class Merger:
    """Takes the chunks of one stream, and gives them back with adjacent deltas merged.

    What is not understood comes out as it went in, and in its place; the first event always does.
    A block that is not complete is held until it is, or until `release`. Nothing is ever raised.

    Pure: the caller decides when to `take`.
    """

    def __init__(
        self,
        formats: Collection[Format],
        *,
        flush_on: Collection[str] = (),
        max_merged_bytes: int = 16_384,
        max_event_bytes: int = 65_536,
        lines: bool = False,
    ) -> None:
        self.state = State.LOOKING if formats else State.WATCHING
        self._formats = tuple(formats)
        self._flush_on = frozenset(flush_on)
        self._max_merged_bytes = max_merged_bytes
        self._max_event_bytes = max_event_bytes
        self._splitter: Splitter = LineSplitter() if lines else EventSplitter()
        self._read = read_line if lines else read_first_event
        self._runs: list[Run] = []  # for each kind of delta; only the first has something in it
        self._out: list[bytes] = []
        self._begun = False  # whether an event has gone by
        self._place = Place.BETWEEN
        self._in_vain = 0  # events looked at since there was last something gained by it

    @property
    def _passing(self) -> bool:
        return self.state is State.PASSING

    @property
    def held(self) -> int:
        """Bytes of a block that is not complete."""
        return self._splitter.held

    @property
    def _pending(self) -> bool:
        return bool(self._runs) and self._runs[0].size > 0

    def add(self, chunk: bytes) -> bool:
        """Take a chunk. True if what is ready now must not wait."""
        runs = self._runs
        # The usual case: a chunk that is one more of the same.
        if runs and self._place is Place.BETWEEN:
            run = runs[0]
            if run.size + len(chunk) <= self._max_merged_bytes and run.add(chunk):
                self._in_vain = 0
                return run.urgent
        if self._passing:
            self._pass(chunk)
            return False
        urgent = False
        for block in self._splitter.feed(chunk):
            urgent |= self._add_block(block)
        if self._passing or self.held >= self._max_event_bytes:
            self.stop()
        if self._place is not Place.REST:
            self._place = Place.WITHIN if self.held else Place.BETWEEN
        return urgent

    def take(self) -> bytes:
        """All that is ready, merged."""
        if self._pending and not self._out:
            return self._runs[0].take()
        self._end_run()
        out, self._out = self._out, []
        return b"".join(out)

    def release(self) -> None:
        """Make ready what is held, too."""
        if held := self._splitter.release():
            self._pass(held)
            self._place = Place.REST if held.strip(b"\r\n") else Place.BETWEEN

    def stop(self) -> None:
        """From here on all passes as it is, and unseen."""
        self.release()
        self._end_run()
        self._runs = []
        self.state = State.PASSING

    # One block.

    def _add_block(self, block: bytes) -> bool:
        """True if it must not wait."""
        if self._place is Place.REST:
            self._place = Place.BETWEEN
            self._pass(block)
            return False
        for run in self._runs:
            if self._join(run, run.add, block):
                self._in_vain = 0
                return run.urgent
        if self._passing:
            self._pass(block)
            return False
        merging = self.state is State.MERGING
        event = self._read(block) if self._is_of_interest(block) else None
        if self._read is read_first_event:
            self._read = read_event
        if event is None:  # a comment, say
            self._pass(block)
            return merging
        return self._add_event(event)

    def _is_of_interest(self, block: bytes) -> bool:
        """Whether it has to be parsed to see what it is."""
        if len(block) > self._max_event_bytes:
            return False
        return self.state is not State.MERGING or any(f.mark in block for f in self._formats)

    def _add_event(self, event: Event) -> bool:
        value = _value(event)
        names = {event.name or "message"}
        if isinstance(value, dict) and isinstance(kind := value.get("type"), str):
            names.add(kind)
        urgent = not names.isdisjoint(self._flush_on)
        first, self._begun = not self._begun, True
        self._recognise(event, value)
        delta = None if first else self._delta(event, value)
        if delta is None:
            self._pass(event.block)
            if self.state is State.MERGING:
                self._in_vain = 0
                return True
            return urgent or first
        run = next((known for known in self._runs if known == delta.run), delta.run)
        run.urgent = urgent
        self._in_vain = self._in_vain + 1 if run is delta.run else 0
        if self._in_vain == LONERS:
            self._give_up()
        if not self._join(run, partial(run.add_known, parts=delta.parts), event.block):
            self._pass(event.block)
        return urgent

    def _recognise(self, event: Event, value: Any) -> None:
        """See which format the stream is of, from its events."""
        if self.state is not State.LOOKING:
            return
        known = [format for format in self._formats if _recognises(format, event, value)]
        if known:
            self.state = State.MERGING
            self._in_vain = 0
            if any(format.exclusive for format in known):
                self._formats = tuple(f for f in self._formats if not f.exclusive or f in known)
            return
        self._in_vain += 1
        if self._in_vain == STRANGERS and all(format.exclusive for format in self._formats):
            self._give_up()

    def _give_up(self) -> None:
        self._formats = ()
        self.state = State.WATCHING if self._flush_on else State.PASSING

    def _delta(self, event: Event, value: Any) -> Delta | None:
        if self.state is not State.MERGING or not event.plain:
            return None
        deltas = [delta for format in self._formats if (delta := _read(format, event, value))]
        return next((delta for delta in deltas if not delta.run.alone), next(iter(deltas), None))

    # The run.

    def _join(self, run: Run, add: Callable[[bytes], bool], block: bytes) -> bool:
        """Add an event to this run, if it may be in it. It is the first run then."""
        first = bool(self._runs) and self._runs[0] is run
        if first and (run.alone or run.size + len(block) > self._max_merged_bytes):
            self._end_run()
        if not add(block):
            return False
        if not first:
            self._end_run()
            self._runs = [run, *(other for other in self._runs if other is not run)][:KNOWN_RUNS]
        return True

    def _end_run(self) -> None:
        if self._pending:
            self._out.append(self._runs[0].take())

    def _pass(self, block: bytes) -> None:
        self._end_run()
        self._out.append(block)


def _value(event: Event) -> Any:
    """The JSON value of its data, or `MISSING`."""
    if len(event.data) != 1:
        return MISSING
    try:
        text = event.block[slice(*event.data[0])].decode("utf-8", "surrogateescape")
        return json.loads(text)
    except (ValueError, RecursionError):
        return MISSING


# No format may raise into the app: where it does not know what to make of an event, the event is
# not of it. (A deeply nested one may raise `RecursionError`, though it could just be parsed.)


def _recognises(format: Format, event: Event, value: Any) -> bool:
    try:
        return format.recognises(event, value)
    except Exception:  # noqa: BLE001
        return False


def _read(format: Format, event: Event, value: Any) -> Delta | None:
    try:
        return format.read(event, value)
    except Exception:  # noqa: BLE001
        return None
