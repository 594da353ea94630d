"""Chunks in, fewer events out: what of a stream may be merged, and what must not wait."""

from __future__ import annotations

import json
from collections.abc import Collection
from enum import Enum, auto
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
from ._pattern import Parts
from ._template import Delta, Template
from ._values import MISSING

GIVE_UP_AFTER_UNKNOWN: Final = 16
"""So many events of no known format, and none of one: the stream is left alone."""

GIVE_UP_AFTER_UNMERGED: Final = 64
"""So many deltas one after another, each unlike all before it: nothing will be merged here."""

KNOWN_TEMPLATES: Final = 4
"""How many kinds of deltas are tried before an event is parsed: several keys may take turns."""


class Mode(Enum):
    """What is known about the stream."""

    DETECTING = auto()
    """Which format it is, if any, is yet to be seen."""
    MERGING = auto()
    WATCHING = auto()
    """It is none to merge. Its events are looked at, for those that must not wait."""
    PASSTHROUGH = auto()
    """Nothing is looked at any more."""


class Place(Enum):
    """Where in the stream the next byte is."""

    BETWEEN_BLOCKS = auto()
    """At the beginning of a block."""
    IN_BLOCK = auto()
    """In a block whose first bytes are held."""
    IN_TORN_BLOCK = auto()
    """In a block whose first bytes are out already: no event is to be made of the rest."""


# CPython 3.11 takes longer to look up a member of an enum than to compare it.
_BETWEEN_BLOCKS: Final = Place.BETWEEN_BLOCKS


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
        self.mode = Mode.DETECTING if formats else Mode.WATCHING
        self._formats = tuple(formats)
        self._flush_on = frozenset(flush_on)
        self._max_merged_bytes = max_merged_bytes
        self._max_event_bytes = max_event_bytes
        self._splitter: Splitter = LineSplitter() if lines else EventSplitter()
        self._read = read_line if lines else read_first_event
        self._templates: list[
            Template
        ] = []  # for each kind of delta; only the first has something in it
        self._out: list[bytes] = []
        self._has_begun = False  # whether an event has gone by
        self._place = Place.BETWEEN_BLOCKS
        self._wasted_reads = 0  # events looked at since there was last something gained by it

    @property
    def _passes_through(self) -> bool:
        return self.mode is Mode.PASSTHROUGH

    @property
    def held(self) -> int:
        """Bytes of a block that is not complete."""
        return self._splitter.held

    @property
    def _pending(self) -> bool:
        return bool(self._templates) and self._templates[0].size > 0

    def add(self, chunk: bytes) -> bool:
        """Take a chunk. True if what is ready now must not wait."""
        templates = self._templates
        # The usual case: a chunk that is one more of the same.
        if templates and self._place is _BETWEEN_BLOCKS:
            template = templates[0]
            if (
                not template.never_merges
                and template.size + len(chunk) <= self._max_merged_bytes
                and template.add(chunk)
            ):
                self._wasted_reads = 0
                return template.urgent
        if self._passes_through:
            self._pass_through(chunk)
            return False
        urgent = False
        for block in self._splitter.feed(chunk):
            urgent |= self._add_block(block)
        if self._passes_through or self.held >= self._max_event_bytes:
            self.stop()
        if self._place is not Place.IN_TORN_BLOCK:
            self._place = Place.IN_BLOCK if self.held else Place.BETWEEN_BLOCKS
        return urgent

    def take(self) -> bytes:
        """All that is ready, merged."""
        if self._pending and not self._out:
            return self._templates[0].take()
        self._end_run()
        out, self._out = self._out, []
        return b"".join(out)

    def release(self) -> None:
        """Make ready what is held, too."""
        if held := self._splitter.release():
            self._pass_through(held)
            self._place = Place.IN_TORN_BLOCK if held.strip(b"\r\n") else Place.BETWEEN_BLOCKS

    def stop(self) -> None:
        """From here on all passes as it is, and unseen."""
        self.release()
        self._end_run()
        self._templates = []
        self.mode = Mode.PASSTHROUGH

    # One block.

    def _add_block(self, block: bytes) -> bool:
        """True if it must not wait."""
        if self._place is Place.IN_TORN_BLOCK:
            self._place = Place.BETWEEN_BLOCKS
            self._pass_through(block)
            return False
        for template in self._templates:
            if self._add_to(template, block):
                self._wasted_reads = 0
                return template.urgent
        if self._passes_through:
            self._pass_through(block)
            return False
        merging = self.mode is Mode.MERGING
        event = self._read(block) if self._must_be_read(block) else None
        if self._read is read_first_event:
            self._read = read_event
        if event is None:  # a comment, say
            self._pass_through(block)
            return merging
        return self._add_event(event)

    def _must_be_read(self, block: bytes) -> bool:
        """Whether it has to be parsed to see what it is."""
        if len(block) > self._max_event_bytes:
            return False
        return self.mode is not Mode.MERGING or any(f.mark in block for f in self._formats)

    def _add_event(self, event: Event) -> bool:
        value = _json_value(event)
        names = {event.name or "message"}
        if isinstance(value, dict) and isinstance(kind := value.get("type"), str):
            names.add(kind)
        urgent = not names.isdisjoint(self._flush_on)
        first, self._has_begun = not self._has_begun, True
        self._detect_format(event, value)
        delta = None if first else self._read_delta(event, value)
        if delta is None:
            self._pass_through(event.block)
            if self.mode is Mode.MERGING:
                self._wasted_reads = 0
                return True
            return urgent or first
        learned = delta.template
        template = next((known for known in self._templates if known.accepts(learned)), learned)
        template.urgent = urgent
        self._wasted_reads = self._wasted_reads + 1 if template is learned else 0
        if self._wasted_reads == GIVE_UP_AFTER_UNMERGED:
            self._give_up()
        if not self._add_to(template, event.block, delta.parts):
            self._pass_through(event.block)
        return urgent

    def _detect_format(self, event: Event, value: Any) -> None:
        """See which format the stream is of, from its events."""
        if self.mode is not Mode.DETECTING:
            return
        known = [format for format in self._formats if _recognises(format, event, value)]
        if known:
            self.mode = Mode.MERGING
            self._wasted_reads = 0
            if any(format.exclusive for format in known):
                self._formats = tuple(f for f in self._formats if not f.exclusive or f in known)
            return
        self._wasted_reads += 1
        if self._wasted_reads == GIVE_UP_AFTER_UNKNOWN and all(
            format.exclusive for format in self._formats
        ):
            self._give_up()

    def _give_up(self) -> None:
        self._formats = ()
        self.mode = Mode.WATCHING if self._flush_on else Mode.PASSTHROUGH

    def _read_delta(self, event: Event, value: Any) -> Delta | None:
        if self.mode is not Mode.MERGING or not event.plain:
            return None
        deltas = [delta for format in self._formats if (delta := _read(format, event, value))]
        return next(
            (delta for delta in deltas if not delta.template.never_merges), next(iter(deltas), None)
        )

    # The run.

    def _add_to(self, template: Template, block: bytes, parts: Parts | None = None) -> bool:
        """Add an event to this run, if it may be in it. It is the first run then."""
        first = bool(self._templates) and self._templates[0] is template
        is_full = template.size + len(block) > self._max_merged_bytes
        if first and (template.never_merges or is_full):
            self._end_run()
        if not template.add(block, parts):
            return False
        if not first:
            self._end_run()
            others = [other for other in self._templates if other is not template]
            self._templates = [template, *others][:KNOWN_TEMPLATES]
        return True

    def _end_run(self) -> None:
        if self._pending:
            self._out.append(self._templates[0].take())

    def _pass_through(self, block: bytes) -> None:
        self._end_run()
        self._out.append(block)


def _json_value(event: Event) -> Any:
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
