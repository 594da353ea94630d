"""The phases of a response, and what the app sends before and after each of them.

In one of these phases the client leaves, or stops reading. The app, in the process of the server,
and the tests, in their own process, both use this module.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Phase(StrEnum):
    """A point that a response reaches. The value is a part of the request's path."""

    BEFORE_START = "before-the-response-starts"
    BEFORE_FIRST_CHUNK = "before-the-first-chunk"
    BETWEEN_EVENTS = "between-events"
    INSIDE_EVENT = "inside-an-event"
    FINAL_WRITE = "during-the-last-write"
    AFTER_END = "after-the-end"

    @property
    def column(self) -> str:
        """The title of the phase's column in the tables."""
        return self.value.replace("-", " ")


class Action(StrEnum):
    """What the app does once the phase is reached. The value is a part of the request's path."""

    WAIT = "wait"
    """Send nothing more, as if waiting for a model. Once the test releases the request, send `TICK`
    every 5 ms."""
    FLOOD = "flood"
    """Send more than all buffers hold, and then end the response. `send_timeout` is short."""
    END = "end"
    """End the response."""


FIRST: Final = b"data: 0\n\n"
SECOND: Final = b"data: 1\n\n"
HALF: Final = b"data: 2 and"
TICK: Final = b"data: 3\n\n"

FLOOD_SIZE: Final = 8_000_000
"""Bytes. Linux buffers some 4 MB for a connection, and granian another half a megabyte."""
PART: Final = b"data: " + b"x" * 9_992 + b"\n\n"
LAST: Final = PART
"""The last message of a response, which in `Phase.FINAL_WRITE` the client does not read."""
PART_OF_EVENT: Final = b"y" * 10_000


def chunks_before(phase: Phase) -> list[bytes]:
    """Return the chunks that the app has sent when it reaches the phase: all, if after the end."""
    return {
        Phase.BEFORE_START: [],
        Phase.BEFORE_FIRST_CHUNK: [],
        Phase.BETWEEN_EVENTS: [FIRST, SECOND],
        Phase.INSIDE_EVENT: [FIRST, HALF],
        Phase.FINAL_WRITE: [FIRST],
        Phase.AFTER_END: [FIRST, SECOND],
    }[phase]


def chunks_after(phase: Phase, action: Action) -> list[bytes]:
    """Return the chunks that the app sends after it has reached the phase, if nothing stops it."""
    if phase is Phase.AFTER_END or (action is Action.WAIT and phase is not Phase.FINAL_WRITE):
        return []
    part = PART_OF_EVENT if phase is Phase.INSIDE_EVENT else PART
    return [part] * (FLOOD_SIZE // len(part))


def whole_body(phase: Phase, action: Action) -> bytes:
    """Return the body of a whole response."""
    last = [LAST] if phase is Phase.FINAL_WRITE else []
    return b"".join(chunks_before(phase) + chunks_after(phase, action) + last)


def size_before(phase: Phase) -> int:
    """Return how many bytes the client reads before the phase is reached."""
    return len(b"".join(chunks_before(phase)))
