"""Chunks in, fewer events out: what of a stream may be merged, and what must not wait."""

from __future__ import annotations

import json
from collections.abc import Collection
from enum import Enum, auto
from typing import Any, Final

from .._framing import Event, EventSplitter, LineSplitter, Splitter, read_event, read_line
from ._formats import Format
from ._shapes import Delta, Places, Shape
from ._values import MISSING

STRANGERS: Final = 16
"""So many events of no known format, and none of one: the stream is left alone."""

KNOWN_SHAPES: Final = 4
"""How many shapes are tried before an event is parsed: deltas of several keys may take turns."""


class State(Enum):
    """What is known about the stream."""

    LOOKING = auto()
    """Which format it is, if any, is yet to be seen."""
    MERGING = auto()
    WATCHING = auto()
    """It is none to merge. Its events are looked at, for those that must not wait."""
    PASSING = auto()
    """Nothing is looked at any more."""


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
        self._read = read_line if lines else read_event
        self._shapes: list[Shape] = []  # the one seen last comes first
        self._out: list[bytes] = []
        # The run: adjacent events of the first shape, on their way to become one.
        self._run: list[bytes] = []
        self._run_places: list[Places] = []
        self._run_size = 0
        self._begun = False  # whether an event has gone by
        self._strangers = 0

    @property
    def _passing(self) -> bool:
        return self.state is State.PASSING

    @property
    def held(self) -> int:
        """Bytes of a block that is not complete."""
        return self._splitter.held

    @property
    def ready(self) -> bool:
        """Whether there is something to take."""
        return bool(self._run or self._out)

    def add(self, chunk: bytes) -> bool:
        """Take a chunk. True if what is ready now must not wait."""
        if self._shapes and not self._splitter.held and self._continues(self._shapes[0], chunk):
            return self._shapes[0].urgent
        if self._passing:
            self._pass(chunk)
            return False
        urgent = False
        for block in self._splitter.feed(chunk):
            urgent |= self._add_block(block)
        if self._passing or self._splitter.held >= self._max_event_bytes:
            self.stop()
        return urgent

    def take(self) -> bytes:
        """All that is ready, merged."""
        self._end_run()
        out, self._out = self._out, []
        return out[0] if len(out) == 1 else b"".join(out)

    def release(self) -> None:
        """Make ready what is held, too."""
        if held := self._splitter.release():
            self._pass(held)

    def stop(self) -> None:
        """From here on all passes as it is, and unseen."""
        self.release()
        self._end_run()
        self._shapes = []
        self.state = State.PASSING

    # One block.

    def _add_block(self, block: bytes) -> bool:
        """True if it must not wait."""
        for shape in self._shapes:
            if self._continues(shape, block):
                return shape.urgent
        if self._passing:
            self._pass(block)
            return False
        event = self._read(block)
        if event is None:  # a comment, say
            self._pass(block)
            return self.state is State.MERGING
        return self._add_event(event)

    def _add_event(self, event: Event) -> bool:
        value = _value(event)
        urgent = event.name in self._flush_on or (
            isinstance(value, dict) and value.get("type") in self._flush_on
        )
        first, self._begun = not self._begun, True
        self._recognise(event, value)
        delta = None if first else self._delta(event, value)
        if delta is None:
            self._pass(event.block)
            return urgent or first or self.state is State.MERGING
        shape = next((known for known in self._shapes if known == delta.shape), delta.shape)
        shape.urgent = urgent
        if not self._join(shape, event.block, delta.places):
            self._pass(event.block)
        return urgent

    def _recognise(self, event: Event, value: Any) -> None:
        """See which format the stream is of, from its events."""
        if self.state is not State.LOOKING:
            return
        for format in self._formats:
            if format.recognises(event, value):
                self.state = State.MERGING
                if format.exclusive:
                    self._formats = (format, *(f for f in self._formats if not f.exclusive))
                return
        self._strangers += 1
        if self._strangers == STRANGERS and all(format.exclusive for format in self._formats):
            self._formats = ()
            self.state = State.WATCHING if self._flush_on else State.PASSING

    def _delta(self, event: Event, value: Any) -> Delta | None:
        if not event.plain:
            return None
        try:
            found = (format.read(event, value) for format in self._formats)
            return next((delta for delta in found if delta is not None), None)
        except RecursionError:  # nested so deeply that it could only just be parsed
            return None

    # The run.

    def _continues(self, shape: Shape, block: bytes) -> bool:
        """Whether it is one more event of this shape, as is seen without parsing it: the usual
        case. It is in the run then."""
        places = shape.find(block)
        return places is not None and self._join(shape, block, places)

    def _join(self, shape: Shape, block: bytes, places: Places) -> bool:
        """Put an event of this shape into the run, or begin one with it; if it may be in one."""
        known = self._shapes
        same = bool(known) and known[0] is shape
        if shape.stands_alone(block, places, first=not (same and self._run)):
            return False
        if not same:
            self._end_run()
            self._shapes = [shape, *(other for other in known if other is not shape)]
            del self._shapes[KNOWN_SHAPES:]
        elif self._run_size + len(block) > self._max_merged_bytes:
            self._end_run()
        self._run.append(block)
        self._run_places.append(places)
        for start, end in places:
            self._run_size += end - start
        return True

    def _end_run(self) -> None:
        run, places = self._run, self._run_places
        if run:
            self._out.append(run[0] if len(run) == 1 else self._shapes[0].merge(run, places))
            self._run, self._run_places, self._run_size = [], [], 0

    def _pass(self, block: bytes) -> None:
        self._end_run()
        self._out.append(block)


def _value(event: Event) -> Any:
    """The JSON value of its data, or `MISSING`."""
    if len(event.data) != 1:
        return MISSING
    try:
        return json.loads(event.payload())
    except (ValueError, RecursionError):
        return MISSING
