"""Deadlines that come in order: one timer of the event loop for all who wait for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from weakref import WeakValueDictionary

Call = Callable[[], object]


class Timer(Protocol):
    """A callback that waits for its time."""

    def cancel(self) -> None:
        """Do not call."""


class Waiter(Protocol):
    """Who waits for a deadline."""

    def due(self) -> None:
        """It has come. Must not raise."""


class Deadlines:
    """Deadlines that are all the same delay after they were set: the first in is the next to come.

    A timer for each would be three objects more for the garbage collector to count. With hundreds
    of streams, whose batches begin and end together, it ran many times a second.
    """

    __slots__ = ("__weakref__", "_call_at", "_rings_at", "_time", "_timer", "_waiting")

    def __init__(self, call_at: Callable[[float, Call], Timer], time: Callable[[], float]) -> None:
        self._call_at = call_at
        self._time = time
        self._waiting: dict[Waiter, float] = {}
        self._timer: Timer | None = None
        self._rings_at = 0.0

    def add(self, waiter: Waiter, deadline: float) -> None:
        """Tell it then, if it does not wait already. No earlier deadline may come after this."""
        self._waiting[waiter] = deadline
        if self._timer is None:
            self._arm(deadline)

    def discard(self, waiter: Waiter) -> None:
        """Do not tell it."""
        if self._waiting.pop(waiter, None) is not None and not self._waiting:
            self._disarm()

    def _arm(self, deadline: float) -> None:
        self._rings_at = deadline
        self._timer = self._call_at(deadline, self._ring)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        # A loop's timer may go off a clock tick early: by its own reckoning it is that time.
        now = max(self._time(), self._rings_at)
        self._timer = None
        due: list[Waiter] = []
        for waiter, deadline in self._waiting.items():
            if deadline > now:
                self._arm(deadline)
                break
            due.append(waiter)
        for waiter in due:
            if self._waiting.pop(waiter, None) is not None:  # nobody has discarded it meanwhile
                waiter.due()


class Queues:
    """The `Deadlines` of one event loop: those of each delay, as long as somebody holds them."""

    def __init__(self, call_at: Callable[[float, Call], Timer], time: Callable[[], float]) -> None:
        self._call_at = call_at
        self._time = time
        self.known: WeakValueDictionary[float, Deadlines] = WeakValueDictionary()
        """By delay."""

    def __call__(self, delay: float) -> Deadlines:
        queue = self.known.get(delay)
        if queue is None:
            queue = self.known[delay] = Deadlines(self._call_at, self._time)
        return queue
