"""Timers for deadlines that move often, and for many deadlines at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Protocol
from weakref import WeakValueDictionary

Callback = Callable[[], object]


class Timer(Protocol):
    """A scheduled callback of the event loop."""

    def cancel(self) -> None:
        """Cancel the callback."""


CallAt = Callable[[float, Callback], Timer]


class Clock(Protocol):
    """The part of `Loop` that a timer needs."""

    @property
    def time(self) -> Callable[[], float]:
        """Return the time of the event loop, in seconds."""

    def call_at(self, when: float, callback: Callback, /) -> Timer:
        """Call back at that time."""


class LazyTimer:
    """A timer whose deadline moves often and expires seldom.

    When the timer expires, it calls `callback(now)`. The callback does what is due and returns the
    next deadline, or None. So a deadline that moves later needs no cancelled timer: the timer
    expires early, and the callback returns the later deadline. An early expiry costs less than a
    cancelled timer for each move.
    """

    __slots__ = ("_callback", "_clock", "_timer", "when")

    def __init__(self, clock: Clock, callback: Callable[[float], float | None]) -> None:
        self._clock = clock
        self._callback = callback
        self._timer: Timer | None = None
        self.when = math.inf
        """When the timer expires; infinity while the timer is not set."""

    def reschedule(self, when: float) -> None:
        """Set the deadline. The timer expires then, or earlier if it was set to an earlier time."""
        if self._timer is not None:
            if self.when <= when:
                return
            self._timer.cancel()
        self.when = when
        self._timer = self._clock.call_at(when, self._expire)

    def stop(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.when = math.inf

    def release(self) -> None:
        """Stop, and drop the callback, which refers to the object that owns this timer."""
        self.stop()
        self._callback = _nothing

    def _expire(self) -> None:
        # The timer of an event loop may expire one tick of the clock early.
        now = max(self._clock.time(), self.when)
        self._timer = None
        self.when = math.inf
        following = self._callback(now)
        if following is not None:
            self.reschedule(following)


def _nothing(now: float) -> None:
    """Do nothing, and set no deadline."""


class Waiter(Protocol):
    """An object that waits in a `TimerQueue`."""

    def on_timer(self) -> None:
        """Do what is due. What this raises reaches the event loop, after the other waiters that are
        due have been called."""


class TimerQueue:
    """Deadlines of many waiters, served by one timer of the event loop.

    Deadlines that lie equally far in the future expire in the order in which they were added, so
    the first in the queue is the next to expire. A deadline that is earlier than the last one of
    the queue, as in a young burst, gets a timer of its own.

    A timer for each deadline would create three objects that the garbage collector counts. With
    hundreds of streams, whose batches begin and end together, the collector ran many times a
    second.
    """

    __slots__ = (
        "__weakref__",
        "_call_at",
        "_early",
        "_last",
        "_time",
        "_timer",
        "_waiting",
        "_when",
    )

    def __init__(self, call_at: CallAt, time: Callable[[], float]) -> None:
        self._call_at = call_at
        self._time = time
        self._waiting: dict[Waiter, float] = {}
        self._last = 0.0  # the deadline added last; meaningless while nobody waits
        self._early: dict[Waiter, Timer] = {}
        self._timer: Timer | None = None
        self._when = 0.0

    def add(self, waiter: Waiter, deadline: float) -> None:
        """Call `waiter.on_timer` at the deadline. A waiter waits for one deadline at a time."""
        if self._timer is None:
            self._set_timer(deadline)
        elif deadline < self._last:
            self._early[waiter] = self._call_at(deadline, partial(self._expire_early, waiter))
            return
        self._waiting[waiter] = self._last = deadline

    def discard(self, waiter: Waiter) -> None:
        """Remove the waiter, if it waits."""
        if self._waiting.pop(waiter, None) is not None:
            if not self._waiting and self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif (timer := self._early.pop(waiter, None)) is not None:
            timer.cancel()

    def _set_timer(self, deadline: float) -> None:
        self._when = deadline
        self._timer = self._call_at(deadline, self._expire)

    def _expire(self) -> None:
        # The timer of an event loop may expire one tick of the clock early.
        now = max(self._time(), self._when)
        self._timer = None
        due: list[Waiter] = []
        for waiter, deadline in self._waiting.items():
            if deadline > now:
                self._set_timer(deadline)
                break
            due.append(waiter)
        errors: list[BaseException] = []
        for waiter in due:
            # Another waiter may have discarded this one, and even added it again.
            if self._waiting.get(waiter, math.inf) <= now:
                del self._waiting[waiter]
                try:
                    waiter.on_timer()
                except BaseException as error:  # noqa: BLE001
                    errors.append(error)
        if errors:
            self._raise(errors, now)

    def _raise(self, errors: list[BaseException], now: float) -> None:
        """Raise the first exception, and each other one in a timer of its own: the event loop
        handles one exception of a callback."""
        first, *others = errors
        if others:
            self._call_at(now, partial(self._raise, others, now))
        errors.clear()  # or the traceback of an exception would keep the exception
        raise first

    def _expire_early(self, waiter: Waiter) -> None:
        del self._early[waiter]
        waiter.on_timer()


class TimerQueues:
    """The timer queues of one event loop: one for each delay, as long as it is referenced."""

    def __init__(self, call_at: CallAt, time: Callable[[], float]) -> None:
        self._call_at = call_at
        self._time = time
        self.by_delay: WeakValueDictionary[float, TimerQueue] = WeakValueDictionary()

    def __call__(self, delay: float) -> TimerQueue:
        """Return the queue for deadlines that are at most `delay` seconds away when added."""
        queue = self.by_delay.get(delay)
        if queue is None:
            queue = self.by_delay[delay] = TimerQueue(self._call_at, self._time)
        return queue
