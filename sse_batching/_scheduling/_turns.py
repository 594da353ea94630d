"""How long an event loop has been in one turn: nobody may keep it to himself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MAX_TURN: Final = 0.001
"""Seconds after which an app that never awaits has to give way to other tasks; twice that, as turns
are looked at no more often. A request needs four or five turns of the loop; this many times as long
is still nothing that a person notices."""


class Turns:
    """The turns of one event loop, for all who might hold it up.

    Once in a while, when somebody is at work, the loop is asked to call back: in its next turn it
    will. As long as it has not, it is in the same turn.
    """

    __slots__ = ("_asked", "_call_soon", "limit", "number")

    def __init__(self, call_soon: Callable[[Callable[[], object]], object]) -> None:
        self.limit = 0.0
        """Until then all is well: `over` need not be asked."""
        self.number = 0
        """Of the turn that is looked at: another one, another number."""
        self._call_soon = call_soon
        self._asked = False

    def over(self, now: float) -> bool:
        """Whether the loop has been in one turn for too long: give way."""
        if now <= self.limit:
            return False
        if self._asked:
            return True
        self._asked = True
        self.number += 1
        self.limit = now + MAX_TURN
        self._call_soon(self._turned)
        return False

    def _turned(self) -> None:
        self._asked = False
