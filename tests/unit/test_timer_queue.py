"""`TimerQueue`: many deadlines with one timer, and a call of `on_timer` at each deadline."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given, settings, strategies as st

from sse_batching._loop import TimerQueue

DELAY: Final = 5.0


class FakeLoop:
    """A clock that the test moves, and the timers that were set on the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[FakeTimer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object]) -> FakeTimer:
        timer = FakeTimer(when, callback)
        self.timers.append(timer)
        return timer

    @property
    def pending(self) -> list[float]:
        """The times of the timers that have neither expired nor been cancelled."""
        return [timer.when for timer in self.timers if timer.pending]

    def expire_next(self, early: float = 0) -> None:
        """Let the next timer expire, at its time or a little earlier."""
        timer = min((t for t in self.timers if t.pending), key=lambda t: t.when)
        self.now = timer.when - early
        timer.pending = False
        timer.callback()


class FakeTimer:
    """A timer of a `FakeLoop`."""

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback = callback
        self.pending = True

    def cancel(self) -> None:
        self.pending = False


class Waiter:
    """A waiter that records when `on_timer` is called, and then does what the test has set."""

    def __init__(self, name: str, calls: list[tuple[str, float]], loop: FakeLoop) -> None:
        self._name = name
        self._calls = calls
        self._loop = loop
        self.then: Callable[[], object] = lambda: None

    def on_timer(self) -> None:
        self._calls.append((self._name, self._loop.now))
        self.then()


class Queue:
    """A `TimerQueue` with waiters that are known by name, and the record of their calls."""

    def __init__(self, **deadlines: float) -> None:
        self.loop = FakeLoop()
        self.calls: list[tuple[str, float]] = []
        self.queue = TimerQueue(self.loop.call_at, self.loop.time)
        self.waiters: dict[str, Waiter] = {}
        for name, deadline in deadlines.items():
            self.add(name, deadline)

    def add(self, name: str, deadline: float) -> None:
        if name not in self.waiters:
            self.waiters[name] = Waiter(name, self.calls, self.loop)
        self.queue.add(self.waiters[name], deadline)

    def discard(self, name: str) -> None:
        self.queue.discard(self.waiters[name])

    def expire_all(self) -> None:
        while self.loop.pending:
            self.loop.expire_next()


# Deadlines in the order in which they are added.


def test_each_waiter_is_called_at_its_own_deadline() -> None:
    """Each waiter is called once, in order, and not before its deadline."""
    queue = Queue(a=1, b=2, c=2, d=3)

    queue.expire_all()

    assert queue.calls == [("a", 1), ("b", 2), ("c", 2), ("d", 3)]


def test_one_timer_serves_all_waiters() -> None:
    """There is one timer, for the next deadline, and no timer when nobody waits."""
    queue = Queue(a=1, b=2, c=2, d=3)
    timers = []
    while queue.loop.pending:
        timers += queue.loop.pending
        queue.loop.expire_next()

    assert timers == [1, 2, 3]


def test_a_discarded_waiter_is_not_called() -> None:
    """A discarded waiter is not called, even if the timer was set for its deadline."""
    queue = Queue(a=1, b=2, c=3)
    for name in "ac":
        queue.discard(name)

    queue.expire_all()

    assert queue.calls == [("b", 2)]


def test_no_timer_is_left_when_all_waiters_are_discarded() -> None:
    """A queue without waiters has no timer. To discard a waiter twice does no harm."""
    queue = Queue(a=1, b=2)
    for name in "aabb":
        queue.discard(name)

    assert queue.loop.pending == []


def test_a_timer_that_expires_a_clock_tick_early_is_on_time() -> None:
    """A waiter is called although the event loop's timer expired a clock tick early. Set again for
    the same time, the timer could expire early again and again."""
    queue = Queue(a=1, b=2)

    queue.loop.expire_next(early=0.001)

    assert ([name for name, _ in queue.calls], queue.loop.pending) == (["a"], [2])


def test_a_waiter_that_another_one_discards_is_not_called() -> None:
    """A waiter can discard another one whose deadline has come at the same time."""
    queue = Queue(a=1, b=1, c=1)
    queue.waiters["a"].then = lambda: queue.discard("b")

    queue.expire_all()

    assert queue.calls == [("a", 1), ("c", 1)]


def test_a_waiter_can_be_added_again_while_it_is_called() -> None:
    """`on_timer` can add its waiter again, for the deadline of the next batch."""
    queue = Queue(a=1, b=2)
    first = queue.waiters["a"]

    def once_more() -> None:
        first.then = lambda: None
        queue.add("a", queue.loop.now + DELAY)

    first.then = once_more
    queue.expire_all()

    assert queue.calls == [("a", 1), ("b", 2), ("a", 6)]


def test_a_waiter_that_is_discarded_and_added_again_waits_for_its_new_deadline() -> None:
    """Another waiter may do both, while the deadline of this one has come."""
    queue = Queue(a=1, b=1, c=2)

    def postpone() -> None:
        queue.discard("b")
        queue.add("b", 1 + DELAY)

    queue.waiters["a"].then = postpone
    queue.expire_all()

    assert queue.calls == [("a", 1), ("c", 2), ("b", 6)]


def raising(error: BaseException) -> Callable[[], object]:
    def call() -> None:
        raise error

    return call


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_call_that_raises_does_not_delay_other_waiters(kind: type[BaseException]) -> None:
    """All waiters whose deadline has come are called, and then the exception goes on to the event
    loop. Their streams have nothing to do with each other."""
    queue = Queue(a=1, b=1, c=2)
    queue.waiters["a"].then = raising(kind())

    with pytest.raises(kind):
        queue.loop.expire_next()

    assert queue.calls == [("a", 1), ("b", 1)]
    queue.expire_all()
    assert queue.calls[2:] == [("c", 2)]


def test_each_exception_reaches_the_event_loop() -> None:
    """An event loop handles one exception of a callback, so each has a callback of its own."""
    queue = Queue(a=1, b=1, c=1, d=1)
    errors = [ValueError("a"), SystemExit("b"), ValueError("c")]
    for name, error in zip("abc", errors, strict=True):
        queue.waiters[name].then = raising(error)

    caught = []
    while queue.loop.pending:
        try:
            queue.loop.expire_next()
        except BaseException as error:  # noqa: BLE001
            caught.append(error)

    assert caught == errors
    assert [name for name, _ in queue.calls] == ["a", "b", "c", "d"]


def test_a_waiter_that_raises_can_be_added_again() -> None:
    """A waiter whose call has raised is no longer in the queue."""
    queue = Queue(a=1, b=1)
    queue.waiters["a"].then = raising(ValueError("a"))
    with pytest.raises(ValueError, match="a"):
        queue.loop.expire_next()
    queue.waiters["a"].then = lambda: None

    queue.add("a", 2)
    queue.expire_all()

    assert queue.calls == [("a", 1), ("b", 1), ("a", 2)]


# Deadlines that are earlier than the last one of the queue.


def test_an_earlier_deadline_gets_a_timer_of_its_own() -> None:
    """A deadline that is earlier than the last one is kept, and delays no other deadline."""
    queue = Queue(a=2, b=6)

    for name, deadline in (("c", 1), ("d", 4), ("e", 5)):
        queue.add(name, deadline)

    assert sorted(queue.loop.pending) == [1, 2, 4, 5]
    queue.expire_all()
    assert queue.calls == [("c", 1), ("a", 2), ("d", 4), ("e", 5), ("b", 6)]


def test_an_equal_or_later_deadline_needs_no_timer_of_its_own() -> None:
    """Early deadlines do not count as the last one: the waiters after them still share a timer."""
    queue = Queue(a=5, early=2)

    for name, deadline in (("b", 5), ("c", 6)):
        queue.add(name, deadline)

    assert sorted(queue.loop.pending) == [2, 5]
    queue.expire_all()
    assert queue.calls == [("early", 2), ("a", 5), ("b", 5), ("c", 6)]


def test_an_empty_queue_takes_any_deadline() -> None:
    """The last deadline of a queue means nothing once nobody waits for the queue's timer."""
    queue = Queue(a=9)
    queue.discard("a")

    queue.add("b", 2)
    queue.add("c", 3)

    assert queue.loop.pending == [2]
    queue.expire_all()
    assert queue.calls == [("b", 2), ("c", 3)]


def test_to_discard_an_early_waiter_cancels_its_timer_only() -> None:
    """The waiters of the queue, and other early ones, are called as if it had never been added."""
    queue = Queue(a=5, b=6, early=2, earlier=1)

    queue.discard("early")
    queue.discard("early")

    assert sorted(queue.loop.pending) == [1, 5]
    queue.expire_all()
    assert queue.calls == [("earlier", 1), ("a", 5), ("b", 6)]


def test_an_early_waiter_keeps_its_timer_when_the_others_are_discarded() -> None:
    """A queue whose timer is cancelled still calls its early waiters."""
    queue = Queue(a=5, early=2)

    queue.discard("a")

    assert queue.loop.pending == [2]
    queue.expire_all()
    assert queue.calls == [("early", 2)]


def test_an_early_waiter_can_discard_other_waiters() -> None:
    """A waiter that an early one discards is not called, wherever it waits."""
    queue = Queue(a=5, b=6, early=2, later=2)

    def discard() -> None:
        queue.discard("a")
        queue.discard("later")

    queue.waiters["early"].then = discard
    queue.expire_all()

    assert queue.calls == [("early", 2), ("b", 6)]


def test_an_early_waiter_can_be_added_again_while_it_is_called() -> None:
    """After its call an early waiter is added like any other, to the queue or early again."""
    queue = Queue(a=5, early=1)
    deadlines = iter([2.0, 7.0])

    def again() -> None:
        if (deadline := next(deadlines, None)) is not None:
            queue.add("early", deadline)

    queue.waiters["early"].then = again
    queue.expire_all()

    assert queue.calls == [("early", 1), ("early", 2), ("a", 5), ("early", 7)]


def test_an_early_timer_that_expires_a_clock_tick_early_is_on_time() -> None:
    """An early waiter is called once, although the event loop's timer expired a tick early."""
    queue = Queue(a=5, early=2)

    queue.loop.expire_next(early=0.001)

    assert ([name for name, _ in queue.calls], queue.loop.pending) == (["early"], [5])


def test_a_queue_forgets_waiters_that_wait_no_longer() -> None:
    """A queue lives as long as its streams, and must not keep ended streams alive."""
    queue = Queue(a=5, b=6, early=2, earlier=1)
    queue.discard("early")
    queue.discard("b")
    queue.expire_all()
    waiters = [weakref.ref(waiter) for waiter in queue.waiters.values()]

    queue.waiters.clear()
    queue.loop.timers.clear()

    assert [waiter() for waiter in waiters] == [None] * 4


ADD: Final = st.tuples(st.just("add"), st.sampled_from("abcdef"), st.integers(0, 6))
DISCARD: Final = st.tuples(st.just("discard"), st.sampled_from("abcdef"), st.just(0))
EXPIRE: Final = st.tuples(st.just("expire"), st.just(""), st.just(0))


@settings(deadline=None)
@given(st.lists(ADD | DISCARD | EXPIRE, max_size=40))
def test_no_deadline_is_lost_or_moved(steps: list[tuple[str, str, int]]) -> None:
    """In whatever order deadlines are added and discarded, each waiter that stays is called once,
    exactly at its deadline."""
    queue, expected = Queue(), list[tuple[str, float]]()
    waiting: dict[str, float] = {}

    def expire_next() -> None:
        queue.loop.expire_next()
        due = [name for name, deadline in waiting.items() if deadline <= queue.loop.now]
        expected.extend((name, waiting.pop(name)) for name in due)

    for step, name, delay in steps:
        if step == "add" and name not in waiting:
            waiting[name] = queue.loop.now + delay
            queue.add(name, waiting[name])
        elif step == "discard" and waiting.pop(name, None) is not None:
            queue.discard(name)
        elif step == "expire" and queue.loop.pending:
            expire_next()
            while queue.loop.now in queue.loop.pending:
                expire_next()
            assert sorted(queue.calls) == sorted(expected)
    while queue.loop.pending:
        expire_next()

    assert sorted(queue.calls) == sorted(expected)
    assert waiting == {}
