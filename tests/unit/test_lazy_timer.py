"""`LazyTimer`: set often, expires seldom, and never later than requested."""

from __future__ import annotations

import math

import anyio
import pytest

from sse_batching._loop import LazyTimer, current_loop
from tests.conftest import EVERY_LOOP, VIRTUAL_TIME, loops
from tests.support.threads import PATIENCE
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops([*VIRTUAL_TIME, *EVERY_LOOP])]

on_virtual_time = loops(VIRTUAL_TIME)


class RecordedTimer:
    """A timer that records when it expired. Its callback returns the times in `following`."""

    def __init__(self, *following: float) -> None:
        self.expired: list[float] = []
        self._began = current_loop().time()
        self._following = list(following)
        self.timer = LazyTimer(current_loop(), self._expire)

    def _expire(self, now: float) -> float | None:
        self.expired.append(round(now - self._began, 6))
        return self._began + self._following.pop(0) if self._following else None

    def reschedule(self, seconds: float) -> None:
        self.timer.reschedule(self._began + seconds)


@on_virtual_time
@pytest.mark.parametrize(
    ("requested", "expired"),
    [
        pytest.param([5], [5], id="at-its-time"),
        pytest.param([5, 2], [2], id="moved-earlier"),
        pytest.param([5, 8], [5], id="not-postponed"),
        pytest.param([5, 5], [5], id="requested-twice"),
        pytest.param([5, 2, 3, 1, 9], [1], id="at-the-earliest"),
        pytest.param([0], [0], id="now"),
        pytest.param([-1], [0], id="in-the-past"),
    ],
)
async def test_a_timer_expires_once_at_the_earliest_requested_time(
    requested: list[float], expired: list[float]
) -> None:
    """A timer expires at the earliest time it was set to, and then not until it is set again."""
    recorded = RecordedTimer()
    for seconds in requested:
        recorded.reschedule(seconds)

    await advance(20)

    assert recorded.expired == expired


@on_virtual_time
async def test_a_timer_expires_again_at_the_time_that_its_callback_returns() -> None:
    """A callback that was called too early returns the time of the actual deadline."""
    recorded = RecordedTimer(4, 9)
    recorded.reschedule(1)

    await advance(20)

    assert recorded.expired == [1, 4, 9]


@on_virtual_time
async def test_a_timer_can_be_set_again_after_it_has_expired() -> None:
    """A timer can be used more than once."""
    recorded = RecordedTimer()
    recorded.reschedule(1)
    await advance(2)
    recorded.reschedule(3)

    await advance(20)

    assert recorded.expired == [1, 3]


@on_virtual_time
async def test_a_stopped_timer_does_not_expire() -> None:
    """After `stop` a timer does not expire until it is set again. To stop it twice does no harm."""
    recorded = RecordedTimer()
    recorded.reschedule(1)
    recorded.timer.stop()
    recorded.timer.stop()
    await advance(5)
    assert recorded.expired == []

    recorded.reschedule(7)
    await advance(5)

    assert recorded.expired == [7]


async def test_when_is_the_time_that_the_timer_is_set_to() -> None:
    """`when` is the deadline, and infinity while the timer is not set."""
    timer, now = LazyTimer(current_loop(), lambda now: None), current_loop().time()
    assert timer.when == math.inf

    timer.reschedule(now + 60)
    assert timer.when == now + 60

    timer.stop()
    assert timer.when == math.inf


async def test_a_timer_never_expires_before_its_time() -> None:
    """The `now` that the callback gets is never before the deadline, even if the event loop's timer
    expired a clock tick early."""
    expired, event = list[float](), anyio.Event()

    def expire(now: float) -> None:
        expired.append(now)
        event.set()

    timer, deadline = LazyTimer(current_loop(), expire), current_loop().time() + 0.0123
    timer.reschedule(deadline)
    with anyio.fail_after(PATIENCE):
        await event.wait()

    assert expired[0] >= deadline
    assert timer.when == math.inf
