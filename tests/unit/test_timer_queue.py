"""TimerQueue of many streams: one timer, and each is told when its own has come."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Final

import anyio
import pytest

from sse_batching._loop import current_loop
from sse_batching._loop._timers import TimerQueue, TimerQueues
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.virtual_time import advance

DELAY: Final = 5.0


class Loop:
    """A clock that is turned by hand, and the timers that were set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[HandTimer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object]) -> HandTimer:
        timer = HandTimer(when, callback)
        self.timers.append(timer)
        return timer

    @property
    def waiting(self) -> list[float]:
        """When the timers ring that are still to ring."""
        return [timer.when for timer in self.timers if not timer.over]

    def ring(self, early: float = 0) -> None:
        """Let the next timer ring, at its time or a little before."""
        timer = min((t for t in self.timers if not t.over), key=lambda t: t.when)
        self.now = timer.when - early
        timer.over = True
        timer.callback()


class HandTimer:
    """One of them."""

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback = callback
        self.over = False

    def cancel(self) -> None:
        self.over = True


class Stream:
    """One who waits, and writes down when it was told."""

    def __init__(self, told: list[tuple[str, float]], name: str, loop: Loop) -> None:
        self._told = told
        self._name = name
        self._loop = loop
        self.then: Callable[[], object] = lambda: None

    def on_timer(self) -> None:
        self._told.append((self._name, self._loop.now))
        self.then()


class Several:
    """Some streams that wait in one queue."""

    def __init__(self, **deadlines: float) -> None:
        self.loop = Loop()
        self.told: list[tuple[str, float]] = []
        self.queue = TimerQueue(self.loop.call_at, self.loop.time)
        self.streams = {name: Stream(self.told, name, self.loop) for name in deadlines}
        for name, deadline in deadlines.items():
            self.queue.add(self.streams[name], deadline)

    def ring_all(self) -> None:
        while self.loop.waiting:
            self.loop.ring()


def test_each_is_told_at_its_own_deadline() -> None:
    """Once, in order, and none before its time."""
    several = Several(a=1, b=2, c=2, d=3)
    several.ring_all()
    assert several.told == [("a", 1), ("b", 2), ("c", 2), ("d", 3)]


def test_one_timer_serves_them_all() -> None:
    """There is never more than one, for the next deadline, and none when nobody waits."""
    several = Several(a=1, b=2, c=2, d=3)
    timers = []
    while several.loop.waiting:
        timers += several.loop.waiting
        several.loop.ring()
    assert timers == [1, 2, 3]


def test_who_is_discarded_is_not_told() -> None:
    """Neither the first, for which the timer was set, nor another."""
    several = Several(a=1, b=2, c=3)
    for name in "ac":
        several.queue.discard(several.streams[name])
    several.ring_all()
    assert several.told == [("b", 2)]


def test_when_all_are_discarded_no_timer_is_left() -> None:
    """Nor does it matter if one is discarded twice, or never waited."""
    several = Several(a=1, b=2)
    for name in "aabb":
        several.queue.discard(several.streams[name])
    assert several.loop.waiting == []


def test_a_timer_that_rings_a_clock_tick_early_is_on_time() -> None:
    """A loop may do that; set anew for the same time, it would ring again and again."""
    several = Several(a=1, b=2)
    several.loop.ring(early=0.001)
    assert ([name for name, _ in several.told], several.loop.waiting) == (["a"], [2])


def test_who_is_discarded_as_another_is_told_is_not_told() -> None:
    """What one of them does can end another, whose deadline has come as well."""
    several = Several(a=1, b=1, c=1)
    several.streams["a"].then = lambda: several.queue.discard(several.streams["b"])
    several.ring_all()
    assert several.told == [("a", 1), ("c", 1)]


def test_who_was_told_may_wait_again() -> None:
    """For its next batch, also from the very call that tells it."""
    several = Several(a=1, b=2)
    first = several.streams["a"]

    def once_more() -> None:
        first.then = lambda: None
        several.queue.add(first, several.loop.now + DELAY)

    first.then = once_more
    several.ring_all()
    assert several.told == [("a", 1), ("b", 2), ("a", 6)]


def test_a_call_that_must_not_raise_and_does_leaves_the_others_waiting() -> None:
    """A `KeyboardInterrupt` goes its way; the others are told with the next who waits."""
    several = Several(a=1, b=1)

    def interrupt() -> None:
        raise KeyboardInterrupt

    several.streams["a"].then = interrupt
    with pytest.raises(KeyboardInterrupt):
        several.loop.ring()
    several.queue.add(several.streams["a"], 2)
    several.streams["a"].then = lambda: None
    several.ring_all()
    assert several.told == [("a", 1), ("b", 2), ("a", 2)]


def test_streams_of_the_same_delay_share_a_queue() -> None:
    """And those of another have another: only what waits equally long comes in order."""
    queues = TimerQueues(Loop().call_at, Loop().time)
    one = queues(0.05)
    assert queues(0.05) is one
    assert queues(0.1) is not one


def test_a_queue_that_nobody_holds_is_forgotten() -> None:
    """Each stream may have a delay of its own: they do not pile up."""
    queues = TimerQueues(Loop().call_at, Loop().time)
    kept = queues(0.05)
    for n in range(100):
        queues(n + 1.0)
    gc.collect()
    assert list(queues.by_delay) == [0.05]
    assert queues(0.05) is kept


@pytest.mark.anyio
@loops(VIRTUAL_TIME)
async def test_the_deadlines_of_a_loop_are_kept_by_its_clock() -> None:
    """Each event loop has its queues, on its own timers."""
    here = current_loop()
    began, told, done = here.time(), list[float](), anyio.Event()

    class Waiting:
        def on_timer(self) -> None:
            told.append(here.time() - began)
            done.set()

    here.timer_queues(DELAY).add(Waiting(), began + DELAY)
    await advance(DELAY - 1)
    assert not done.is_set()
    await advance(2)
    assert told == [pytest.approx(DELAY)]
