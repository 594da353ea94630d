"""How long the current iteration of an event loop has lasted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MAX_ITERATION: Final = 0.001
"""Seconds after which an app that never awaits has to yield to other tasks. The effective limit is
up to twice as long, because an iteration is sampled at this interval. Another request needs four or
five loop iterations meanwhile, and five times this limit is still a delay that nobody notices."""


class LoopLatency:
    """Detects loop iterations that last too long. All streams of one event loop share one.

    A sample notes the time and schedules a callback with `call_soon`. Until the callback has run,
    the loop is still in the same iteration.
    """

    __slots__ = ("_call_soon", "_sampling", "iteration", "limit")

    def __init__(self, call_soon: Callable[[Callable[[], object]], object]) -> None:
        self.limit = 0.0
        """`too_long` is False up to this time, and need not be called."""
        self.iteration = 0
        """The number of the last sample. While `too_long` returns True, an equal number means the
        same loop iteration."""
        self._call_soon = call_soon
        self._sampling = False

    def too_long(self, now: float) -> bool:
        """Return True if the current iteration has lasted longer than `MAX_ITERATION`."""
        return now > self.limit and self.too_long_past_limit(now)

    def too_long_past_limit(self, now: float) -> bool:
        """Return what `too_long` returns, for a caller that has already compared `now` with
        `limit`."""
        if self._sampling:
            return True
        self._sampling = True
        self.iteration += 1
        self.limit = now + MAX_ITERATION
        self._call_soon(self._iteration_ended)
        return False

    def _iteration_ended(self) -> None:
        self._sampling = False
