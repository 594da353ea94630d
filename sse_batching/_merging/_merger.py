"""The merger of one stream: chunks go in, fewer events come out."""

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
from ._template import AT_ONCE, HURRY, MAY_WAIT, Delta, Template, Urgency
from ._values import MISSING

GIVE_UP_AFTER_UNKNOWN: Final = 16
"""Give up after this many events at the start of a stream, if none of them is in a known format. A
format that is not `exclusive` is looked for without limit."""

GIVE_UP_AFTER_UNMERGED: Final = 64
"""Give up after this many deltas in a row, if none of them has a template that is known by then."""

KNOWN_TEMPLATES: Final = 4
"""How many templates to keep. Several are needed where deltas of different kinds alternate: an
event is compared with each template before it is parsed."""


class Mode(Enum):
    """What the merger does with events."""

    DETECTING = auto()
    """Read events, to detect the format of the stream."""
    MERGING = auto()
    """Merge deltas. The format is known."""
    WATCHING = auto()
    """Merge nothing. Read events only to find those that `flush_on` names."""
    PASSTHROUGH = auto()
    """Read nothing any more."""


class Place(Enum):
    """Where in the stream the next byte is."""

    BETWEEN_BLOCKS = auto()
    """At the beginning of a block. Nothing is held."""
    IN_BLOCK = auto()
    """Inside a block whose first bytes are held."""
    IN_TORN_BLOCK = auto()
    """Inside a block whose first bytes have been released. The remaining bytes look like a block,
    but are not read as an event: they would mean something else without the first bytes."""


# CPython 3.11 takes longer to look up a member of an enum than to compare it.
_BETWEEN_BLOCKS: Final = Place.BETWEEN_BLOCKS


class Merger:
    """Takes the chunks of one stream, and returns them with adjacent deltas merged.

    The first event, and whatever is not understood, comes out unchanged and in its place. A block
    that is not complete is held until the rest of it arrives, or until `release`. No method raises
    an exception.

    A merger knows no clock and does no I/O: the caller decides when to `take`.

    Args:
        formats: the formats to detect. Without any, nothing is merged.
        flush_on: the events that must not wait, by the name in their `event` field, or by the
            member `type` of their data.
        max_merged_bytes: the largest size of a merged event.
        max_batch_bytes: a larger event passes through, unless it fits a template. When this much of
            an incomplete event would have to be held, the merging ends.
        lines: True for newline-delimited JSON, False for an event stream.
    """

    def __init__(
        self,
        formats: Collection[Format],
        *,
        flush_on: Collection[str] = (),
        max_merged_bytes: int = 16_384,
        max_batch_bytes: int = 65_536,
        lines: bool = False,
    ) -> None:
        self.mode = Mode.DETECTING if formats else Mode.WATCHING
        self._formats = tuple(formats)
        self._flush_on = frozenset(flush_on)
        self._max_merged_bytes = max_merged_bytes
        self._max_batch_bytes = max_batch_bytes
        self._splitter: Splitter = LineSplitter() if lines else EventSplitter()
        self._read = read_line if lines else read_first_event
        self._templates: list[Template] = []
        """The latest templates, the last used first. Only the first may have a run in it."""
        self._out: list[bytes] = []
        """What is ready, except for the current run."""
        self._has_begun = False
        """True once the first event has passed."""
        self._place = Place.BETWEEN_BLOCKS
        self._wasted_reads = 0
        """Events in a row that were read without any use: see the constants `GIVE_UP_AFTER_...`."""

    @property
    def _passes_through(self) -> bool:
        return self.mode is Mode.PASSTHROUGH

    @property
    def held(self) -> int:
        """Bytes of the block that is not complete."""
        return self._splitter.held

    @property
    def _has_run(self) -> bool:
        return bool(self._templates) and self._templates[0].size > 0

    def add(self, chunk: bytes) -> Urgency:
        """Add a chunk. Return how long what is ready now may wait."""
        templates = self._templates
        # Fast path: the chunk is one more event of the template that was used last.
        if templates and self._place is _BETWEEN_BLOCKS:
            template = templates[0]
            if (
                not template.never_merges
                and template.size + len(chunk) <= self._max_merged_bytes
                and template.add(chunk)
            ):
                self._wasted_reads = 0
                return template.urgency
        if self._passes_through:
            self._pass_through(chunk)
            return MAY_WAIT
        urgency = MAY_WAIT
        for block in self._splitter.feed(chunk):
            urgency = max(urgency, self._add_block(block))
        if self._passes_through or self.held >= self._max_batch_bytes:
            self.stop()
        if self._place is not Place.IN_TORN_BLOCK:
            self._place = Place.IN_BLOCK if self.held else Place.BETWEEN_BLOCKS
        return urgency

    def take(self) -> bytes:
        """Return all that is ready, and end the current run."""
        if self._has_run and not self._out:
            return self._templates[0].take()
        self._end_run()
        out, self._out = self._out, []
        return b"".join(out)

    def release(self) -> None:
        """Make the held bytes ready, too, although their block is not complete."""
        if held := self._splitter.release():
            self._pass_through(held)
            self._place = Place.IN_TORN_BLOCK if held.strip(b"\r\n") else Place.BETWEEN_BLOCKS

    def stop(self) -> None:
        """End the merging: from now on all chunks pass through unchanged, and are not read."""
        self.release()
        self._end_run()
        self._templates = []
        self.mode = Mode.PASSTHROUGH

    # Blocks. These methods return how long what is ready may wait.

    def _add_block(self, block: bytes) -> Urgency:
        if self._place is Place.IN_TORN_BLOCK:
            self._place = Place.BETWEEN_BLOCKS
            self._pass_through(block)
            return MAY_WAIT
        for template in self._templates:
            if self._add_to(template, block):
                self._wasted_reads = 0
                return template.urgency
        if self._passes_through:
            self._pass_through(block)
            return MAY_WAIT
        merging = self.mode is Mode.MERGING
        event = self._read(block) if self._must_be_read(block) else None
        if self._read is read_first_event:
            self._read = read_event
        if event is None:  # for example a comment
            self._pass_through(block)
            return HURRY if merging else MAY_WAIT
        return self._add_event(event)

    def _must_be_read(self, block: bytes) -> bool:
        """Return True if the block may be an event that matters: only parsing it can tell."""
        if len(block) > self._max_batch_bytes:
            return False
        return self.mode is not Mode.MERGING or any(f.mark in block for f in self._formats)

    def _add_event(self, event: Event) -> Urgency:
        value = _json_value(event)
        names = {event.name or "message"}
        if isinstance(value, dict) and isinstance(kind := value.get("type"), str):
            names.add(kind)
        urgency = MAY_WAIT if names.isdisjoint(self._flush_on) else AT_ONCE
        first, self._has_begun = not self._has_begun, True
        self._detect_format(event, value)
        delta = None if first else self._read_delta(event, value)
        if delta is None:
            self._pass_through(event.block)
            if self.mode is Mode.MERGING:
                self._wasted_reads = 0
                return max(urgency, HURRY)
            return max(urgency, HURRY) if first else urgency
        learned = delta.template
        template = next((known for known in self._templates if known.accepts(learned)), learned)
        template.urgency = urgency
        self._wasted_reads = self._wasted_reads + 1 if template is learned else 0
        if self._wasted_reads == GIVE_UP_AFTER_UNMERGED:
            self._give_up()
        if not self._add_to(template, event.block, delta.parts):
            self._pass_through(event.block)
        return urgency

    # Formats.

    def _detect_format(self, event: Event, value: Any) -> None:
        """Begin to merge if the event, whose data has this value, is in a known format."""
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
        """Look for no format any more. Read on only for the events of `flush_on`."""
        self._formats = ()
        self.mode = Mode.WATCHING if self._flush_on else Mode.PASSTHROUGH

    def _read_delta(self, event: Event, value: Any) -> Delta | None:
        """Return the event as a delta of the first format that merges it, or else of any format."""
        if self.mode is not Mode.MERGING or not event.plain:
            return None
        deltas = [delta for format in self._formats if (delta := _read(format, event, value))]
        mergeable = (delta for delta in deltas if not delta.template.never_merges)
        return next(mergeable, next(iter(deltas), None))

    # The current run.

    def _add_to(self, template: Template, block: bytes, parts: Parts | None = None) -> bool:
        """Add an event to the run of this template. Return False if the template does not take it.

        If the template takes the event, and the current run has another template, that run ends.
        """
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
        if self._has_run:
            self._out.append(self._templates[0].take())

    def _pass_through(self, block: bytes) -> None:
        self._end_run()
        self._out.append(block)


def _json_value(event: Event) -> Any:
    """Return the value of the event's data, or `MISSING` if the data is not one line of JSON."""
    if len(event.data) != 1:
        return MISSING
    try:
        text = event.block[slice(*event.data[0])].decode("utf-8", "surrogateescape")
        return json.loads(text)
    except (ValueError, RecursionError):
        return MISSING


# An exception in a format would be raised by the app's `send`. So an event that makes a format
# raise counts as an event that is not in this format. (Deeply nested data may raise
# `RecursionError` here, although it has just been parsed.)


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
