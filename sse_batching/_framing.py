"""Where events end in the bytes of an event stream (WHATWG, server-sent events, 9.2.6)."""

from __future__ import annotations

from typing import Final

KEEPALIVE_COMMENT: Final = b":\n"
"""A comment line. No blank line follows: some clients make an empty event of a comment block."""

TAIL_LENGTH: Final = 3
"""How many of the last bytes `at_event_boundary` looks at."""


def at_event_boundary(tail: bytes) -> bool:
    """Whether an event has just ended, so that a comment line may follow these last bytes.

    The start of the stream is a boundary too. A final CR is not taken for one: its LF may be
    still to come, and would then end a line that is not there.
    """
    return not tail or tail.endswith((b"\n\n", b"\n\r\n"))
