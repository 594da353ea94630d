"""Where a response stands when its client leaves; and what the app sends until and after then.

Both the app, in the process of the server, and the tests, in theirs, know it from here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Phase(StrEnum):
    """The value stands in the path of the request."""

    BEFORE_START = "before-the-response-starts"
    BEFORE_FIRST_CHUNK = "before-the-first-chunk"
    BETWEEN_EVENTS = "between-events"
    INSIDE_EVENT = "inside-an-event"
    FINAL_WRITE = "during-the-last-write"
    AFTER_END = "after-the-end"

    @property
    def words(self) -> str:
        return self.value.replace("-", " ")


class Then(StrEnum):
    """What the app does when it is there."""

    WAIT = "wait"
    """Nothing more: its model thinks."""
    FLOOD = "flood"
    """It sends more than all buffers hold, and then ends its response. Its `send_timeout` is
    short."""
    END = "end"
    """It ends."""


FIRST: Final = b"data: 0\n\n"
SECOND: Final = b"data: 1\n\n"
HALF: Final = b"data: 2 and"

FLOOD_SIZE: Final = 8_000_000
"""Bytes. Linux buffers some 4 MB for a connection, granian half a megabyte more."""
PART: Final = b"data: " + b"x" * 9_992 + b"\n\n"
LAST: Final = PART
"""The last message, where that is what the client does not read: one more of them."""
PART_OF_EVENT: Final = b"y" * 10_000


def chunks_before(phase: Phase) -> list[bytes]:
    """What the app has sent when it is there; all of it, if that is after the end."""
    return {
        Phase.BEFORE_START: [],
        Phase.BEFORE_FIRST_CHUNK: [],
        Phase.BETWEEN_EVENTS: [FIRST, SECOND],
        Phase.INSIDE_EVENT: [FIRST, HALF],
        Phase.FINAL_WRITE: [FIRST],
        Phase.AFTER_END: [FIRST, SECOND],
    }[phase]


def chunks_after(phase: Phase, then: Then) -> list[bytes]:
    """What it sends then, if it is not stopped."""
    if phase is Phase.AFTER_END or (then is Then.WAIT and phase is not Phase.FINAL_WRITE):
        return []
    part = PART_OF_EVENT if phase is Phase.INSIDE_EVENT else PART
    return [part] * (FLOOD_SIZE // len(part))


def content(phase: Phase, then: Then) -> bytes:
    """The whole response."""
    last = [LAST] if phase is Phase.FINAL_WRITE else []
    return b"".join(chunks_before(phase) + chunks_after(phase, then) + last)


def seen_first(phase: Phase) -> int:
    """How many bytes the client has read when it is there."""
    return len(b"".join(chunks_before(phase)))
