"""Alarms: set often, ringing seldom, and never later than asked."""

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


class Ringing:
    """An alarm that keeps a list of when it rang, and asks to be rung again when it was told to."""

    def __init__(self, *again: float) -> None:
        self.rang: list[float] = []
        self._began = current_loop().time()
        self._again = list(again)
        self.alarm = LazyTimer(current_loop(), self._ring)

    def _ring(self, now: float) -> float | None:
        self.rang.append(round(now - self._began, 6))
        return self._began + self._again.pop(0) if self._again else None

    def ring_after(self, seconds: float) -> None:
        self.alarm.reschedule(self._began + seconds)


@on_virtual_time
@pytest.mark.parametrize(
    ("asked", "rang"),
    [
        pytest.param([5], [5], id="at-its-time"),
        pytest.param([5, 2], [2], id="moved-ahead"),
        pytest.param([5, 8], [5], id="never-put-off"),
        pytest.param([5, 5], [5], id="asked-twice"),
        pytest.param([5, 2, 3, 1, 9], [1], id="at-the-earliest"),
        pytest.param([0], [0], id="now"),
        pytest.param([-1], [0], id="in-the-past"),
    ],
)
async def test_an_alarm_rings_once_and_no_later_than_anybody_asked(
    asked: list[float], rang: list[float]
) -> None:
    """An alarm rings at the earliest time it was set to, and then not until it is set again."""
    ringing = Ringing()
    for seconds in asked:
        ringing.ring_after(seconds)

    await advance(20)

    assert ringing.rang == rang


@on_virtual_time
async def test_an_alarm_rings_again_when_its_owner_says_so() -> None:
    """A ring in vain is answered with the time at which it would not be."""
    ringing = Ringing(4, 9)
    ringing.ring_after(1)

    await advance(20)

    assert ringing.rang == [1, 4, 9]


@on_virtual_time
async def test_an_alarm_can_be_set_again_after_it_rang() -> None:
    """An alarm is good for more than one ring."""
    ringing = Ringing()
    ringing.ring_after(1)
    await advance(2)
    ringing.ring_after(3)

    await advance(20)

    assert ringing.rang == [1, 3]


@on_virtual_time
async def test_a_stopped_alarm_does_not_ring() -> None:
    """After `stop` nothing happens, any number of times; but it may be set again."""
    ringing = Ringing()
    ringing.ring_after(1)
    ringing.alarm.stop()
    ringing.alarm.stop()
    await advance(5)
    assert ringing.rang == []

    ringing.ring_after(7)
    await advance(5)

    assert ringing.rang == [7]


async def test_an_alarm_tells_when_it_rings() -> None:
    """`when` is the time it is set to, and infinity while it is not set."""
    alarm, now = LazyTimer(current_loop(), lambda now: None), current_loop().time()
    assert alarm.when == math.inf

    alarm.reschedule(now + 60)
    assert alarm.when == now + 60

    alarm.stop()
    assert alarm.when == math.inf


async def test_an_alarm_never_rings_before_its_time() -> None:
    """By the `now` that it is told the deadline is reached: no ring is in vain for a clock tick."""
    rang, event = list[float](), anyio.Event()

    def ring(now: float) -> None:
        rang.append(now)
        event.set()

    alarm, due = LazyTimer(current_loop(), ring), current_loop().time() + 0.0123
    alarm.reschedule(due)
    with anyio.fail_after(PATIENCE):
        await event.wait()

    assert rang[0] >= due
    assert alarm.when == math.inf
