"""Wherever in a request a cancellation lands, the client leaves or a write fails: what was
delivered is a prefix of what was accepted, everybody is told once, and nothing is left."""

from __future__ import annotations

from typing import Any, Final

import anyio
import pytest

from sse_batching import CancelReason
from tests.properties.schedule import DELAY, UNIT, Fault, Schedule, Step
from tests.properties.suspension import OwnTaskStruckPlay, StruckPlay
from tests.properties.test_bytes_in_order import missing
from tests.properties.trace import NEVER

pytestmark = pytest.mark.anyio

MOST: Final = 500
"""Suspension points of one scenario: it has to come to an end before."""


def steps(*kinds: Any) -> tuple[Step, ...]:
    """Numbers of bytes, of seconds, and names of other steps."""
    return tuple(
        kind
        if isinstance(kind, Step)
        else Step("pause", kind)
        if isinstance(kind, float)
        else Step("chunk", kind)
        if isinstance(kind, int)
        else Step(kind)
        for kind in kinds
    )


SLOW: Final = (None, 4 * UNIT)
SMALL: Final = {"max_batch_bytes": 10, "max_delay": DELAY}
USUAL: Final = {"max_delay": DELAY}

SCENARIOS: Final = {
    "streams": Schedule((steps(3, UNIT, 3, 3, 0.5, 3, 0.0, 3),), options=USUAL),
    "slow-client": Schedule((steps(3, UNIT, 3, 3, 0.5, 3, UNIT, 3),), SLOW, options=USUAL),
    "flushes": Schedule((steps(3, 3, "flush", 3, UNIT, "flush", "flush", 3),), SLOW, options=USUAL),
    "waits-for-room": Schedule((steps(10, 10, 5, 5, 40),), SLOW, options=SMALL),
    "several-in-line": Schedule(
        (steps(10, 3, "flush", 3), steps(10, UNIT, 9), steps(3, 3, "flush")), SLOW, options=SMALL
    ),
    "unbatched": Schedule((steps(Step("batching", 0), 3, UNIT, 3, 3),), SLOW, options=USUAL),
    "last-write": Schedule((steps(3, UNIT, 3),), SLOW, last_size=5, linger=1.0, options=USUAL),
    "keepalive": Schedule(
        (steps(3, 1.0, 3, 1.0),), SLOW, options={**USUAL, "keepalive_interval": DELAY}
    ),
    "listens": Schedule((steps(3, UNIT, 3, 0.5, 3),), SLOW, listens=True, options=USUAL),
    "listens-and-asked": Schedule(
        (steps(3, UNIT, 3, 0.5, 3),), SLOW, asks=True, listens=True, options=USUAL
    ),
    "uploads": Schedule(
        (steps(3, 0.5, 3),),
        upload=((UNIT, 10), (UNIT, 40_000), (4 * UNIT, 40_000)),
        reads=(0.0, UNIT, DELAY),
        listens=True,
        asks=True,
        options=USUAL,
    ),
    "waits-for-its-token": Schedule((steps(3, 3, Step("wait", 1.0), 3),), asks=True, options=USUAL),
    "hurries": Schedule(
        (steps(10, Step("hurry", UNIT), 10, Step("hurry", UNIT), "flush", 3),), SLOW, options=SMALL
    ),
    "raises": Schedule((steps(3, UNIT, 3),), SLOW, end="raise", options=USUAL),
    "returns": Schedule((steps(3, UNIT, 3),), SLOW, end="return", options=USUAL),
    "winds-up": Schedule(
        (steps(3, 3, Step("wait", 9.0), 3, UNIT, 3, UNIT, 3),),
        SLOW,
        faults=(Fault("leave", 0.5),),
        asks=True,
        stubborn=True,
        options={**USUAL, "grace_period": 1.0},
    ),
    "reports": Schedule((steps(3, UNIT, 3),), SLOW, asks=True, report_time=UNIT, options=USUAL),
}


WAYS: Final = ["task", "woken", "scope"]
"""To cancel: `asyncio.Task.cancel` as it suspends or as it is about to go on, or a scope."""


def is_cancellation(error: BaseException | None) -> bool:
    return isinstance(error, anyio.get_cancelled_exc_class())


def check_once_and_in_order(play: StruckPlay | OwnTaskStruckPlay) -> None:
    """What holds whatever happened."""
    trace = play.trace
    missing(trace)
    assert play.left_over == []
    assert len(trace.reports) == 1
    if trace.tokens_asked:
        told = [why for _, why in trace.cancellations]
        assert told == [trace.reports[0].reason] * bool(trace.reports[0].reason)


@pytest.fixture(params=WAYS)
def strike(request: pytest.FixtureRequest, anyio_backend: Any) -> str:
    """How to cancel. On trio there is no other way than by scope."""
    return "scope" if anyio_backend[0] == "trio" else str(request.param)


@pytest.fixture(params=SCENARIOS)
def scenario(request: pytest.FixtureRequest) -> Schedule:
    return SCENARIOS[request.param]


async def test_a_cancellation_of_the_request_at_every_await(
    scenario: Schedule, strike: str
) -> None:
    """It leaves the middleware; what the app had sent is delivered; and nothing is left."""
    for at in range(1, MOST):
        play = StruckPlay(scenario, strike, at)
        await play.run()
        check_once_and_in_order(play)
        if not play.stepper.reached:
            return
        if play.struck_at is not NEVER:  # the wait was not cut short by somebody else
            check_cancelled(play, strike, at)
    raise AssertionError("this never ends")


def check_cancelled(play: StruckPlay, strike: str, at: int) -> None:
    trace, struck_at = play.trace, play.struck_at
    if is_cancellation(trace.error):
        assert trace.cancelling == (0 if strike == "scope" else 1), at
    else:  # a scope of anyio's cancels no task whose wait is over by itself
        assert strike == "scope", at
        assert trace.over.time == struck_at.time, at
        return
    (report,) = trace.reports
    if trace.completed < struck_at:
        assert (report.reason, report.outcome) == (None, "completed"), at
    elif struck_at < trace.app_ended:
        assert not missing(trace), at
        if struck_at.time < min(trace.left.time, trace.completed.time):
            assert report.reason is CancelReason.SERVER_SHUTDOWN, at


async def test_the_client_leaving_at_every_await(scenario: Schedule) -> None:
    """The request ends without an exception that is not the app's, and nothing is left."""
    for at in range(1, MOST):
        play = StruckPlay(scenario, "leave", at)
        trace = await play.run()
        check_once_and_in_order(play)
        if not play.stepper.reached:
            return
        assert trace.error is trace.raised, at
        (report,) = trace.reports
        assert report.reason in {None, CancelReason.CLIENT_DISCONNECTED}, at
        if report.reason is None:
            assert trace.completed is not NEVER or scenario.end != "last", at
    raise AssertionError("this never ends")


async def test_a_cancellation_of_the_app_s_own_producer_at_every_await(
    scenario: Schedule, strike: str
) -> None:
    """The app's own affair: the stream goes on to its end, whole, and nobody is told anything."""
    for at in range(1, MOST):
        play = OwnTaskStruckPlay(scenario, strike, at)
        trace = await play.run()
        check_once_and_in_order(play)
        assert trace.error is trace.raised, at
        if not scenario.faults:
            assert trace.reports[0].reason is None, at
            assert not missing(trace), at
            if scenario.end == "last":
                assert trace.reports[0].outcome == "completed", at
        if not play.stepper.reached:
            return
    raise AssertionError("this never ends")


async def test_a_failure_of_every_write(scenario: Schedule) -> None:
    """The token, the report and the app's `send` are told, once, and nothing is left."""
    for number in range(MOST):
        faults = (Fault("fail", number), *scenario.faults)
        play = StruckPlay(Schedule(**{**vars(scenario), "faults": faults}), "leave", MOST)
        trace = await play.run()
        check_once_and_in_order(play)
        if len(trace.writes) <= number:
            return
        assert trace.error is trace.raised, number
        assert trace.reports[0].reason is CancelReason.SEND_FAILED, number
    raise AssertionError("this never ends")
