"""When a keep-alive comment is due, and where it may stand."""

from __future__ import annotations

from collections.abc import Callable

from ._loop import LazyTimer, Loop
from ._sse import TAIL_LENGTH, at_event_boundary, begins_event_stream


class Keepalive:
    """Finds when nothing was written for `interval` seconds, and where a comment may follow.

    A comment may only stand between events. So the last bytes of what is written are noted, and the
    first ones, until they show whether the body is an event stream at all.

    `wake`: called when a comment is due. Returns False if the writer has something else to write:
    then no comment is needed now.
    """

    __slots__ = ("_head", "_interval", "_tail", "_time", "_timer", "_wake", "_write_ended", "due")

    def __init__(self, loop: Loop, interval: float, wake: Callable[[], bool]) -> None:
        self.due = False
        """True if a comment is to be written. The writer resets this with every write."""
        self._interval = interval
        self._wake = wake
        self._time = loop.time
        self._head: bytes | None = b""  # the first bytes, until they show an event stream
        self._tail: bytes | None = b""  # the last bytes; None: not known
        self._write_ended = loop.time()
        self._timer = LazyTimer(loop, self._timer_expired)
        self._timer.reschedule(self._write_ended + interval)

    def look_at(self, body: bytes | None) -> None:
        """Note whether a comment may follow this body. None: the body of an unusual message, which
        is not looked at."""
        if body is None:
            self._head = self._tail = None
            return
        self._tail = ((self._tail or b"") + body[-TAIL_LENGTH:])[-TAIL_LENGTH:]
        if self._head is not None:
            self._head += body
            begins = begins_event_stream(self._head)
            if begins:
                self._head = None
            elif begins is not None:
                self.stop()

    def write_ended(self) -> None:
        """Count the interval from now."""
        self._write_ended = self._time()

    def stop(self) -> None:
        """Let no comment follow."""
        self.due = False
        self._timer.stop()

    def release(self) -> None:
        """Drop what refers to this object: the request is over."""
        self._timer.release()

    def _timer_expired(self, now: float) -> float | None:
        due = self._write_ended + self._interval
        if now < due:
            return due
        # While the first bytes do not tell, the body may turn out to be plain text.
        if not self._head and self._tail is not None and at_event_boundary(self._tail):
            self.due = self._wake()
        return now + self._interval
