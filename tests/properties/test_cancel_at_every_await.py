"""A cancellation, a disconnect or a failed write at every possible place of a request.

Each time, the delivered bytes are a prefix of the accepted ones, the token and the report get the
cause once, and no task or timer is left.
"""

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
"""The limit on suspension points of one scenario. A scenario that reaches it never ends."""


def steps(*kinds: Any) -> tuple[Step, ...]:
    """Make steps: an int is a chunk of so many bytes, a float a pause, a string another kind."""
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
    "backpressure": Schedule((steps(10, 10, 5, 5, 40),), SLOW, options=SMALL),
    "several-queued": Schedule(
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
    "timeouts": Schedule(
        (steps(10, Step("timeout", UNIT), 10, Step("timeout", UNIT), "flush", 3),),
        SLOW,
        options=SMALL,
    ),
    "raises": Schedule((steps(3, UNIT, 3),), SLOW, end="raise", options=USUAL),
    "returns": Schedule((steps(3, UNIT, 3),), SLOW, end="return", options=USUAL),
    "cleans-up": Schedule(
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
"""Ways to cancel: `asyncio.Task.cancel` when the task suspends (`task`), `asyncio.Task.cancel` when
the task is about to resume (`woken`), or a cancel scope (`scope`)."""


def is_cancellation(error: BaseException | None) -> bool:
    return isinstance(error, anyio.get_cancelled_exc_class())


def check_once_and_in_order(play: StruckPlay | OwnTaskStruckPlay) -> None:
    """Assert what holds after every kind of strike."""
    trace = play.trace
    missing(trace)
    assert play.left_over == []
    assert len(trace.reports) == 1
    if trace.tokens_asked:
        told = [why for _, why in trace.cancellations]
        assert told == [trace.reports[0].reason] * bool(trace.reports[0].reason)


@pytest.fixture(params=WAYS)
def strike(request: pytest.FixtureRequest, anyio_backend: Any) -> str:
    """A way to cancel. On trio a scope is the only way."""
    return "scope" if anyio_backend[0] == "trio" else str(request.param)


@pytest.fixture(params=SCENARIOS)
def scenario(request: pytest.FixtureRequest) -> Schedule:
    return SCENARIOS[request.param]


async def test_a_cancellation_of_the_request_at_every_await(
    scenario: Schedule, strike: str
) -> None:
    """The middleware delivers what the app sent, raises the cancellation, and leaves nothing."""
    for at in range(1, MOST):
        play = StruckPlay(scenario, strike, at)
        await play.run()
        check_once_and_in_order(play)
        if not play.stepper.reached:
            return
        if play.struck_at is not NEVER:  # the wait was not cut short by another event
            check_cancelled(play, strike, at)
    raise AssertionError("the scenario never ends")


def check_cancelled(play: StruckPlay, strike: str, at: int) -> None:
    trace, struck_at = play.trace, play.struck_at
    if is_cancellation(trace.error):
        assert trace.cancelling == (0 if strike == "scope" else 1), at
    else:
        # A scope does not cancel a task whose wait has just ended. And it cancels again, so that an
        # exception of the app's own may come out first.
        assert strike == "scope", at
        own = play.trace.raised is not None and trace.error is play.trace.raised
        assert own or trace.ended.time == struck_at.time, at
        return
    (report,) = trace.reports
    if trace.completed < struck_at:
        assert (report.reason, report.outcome) == (None, "completed"), at
    elif struck_at < trace.app_ended:
        assert not missing(trace), at
        if struck_at.time < min(trace.left.time, trace.completed.time):
            assert report.reason is CancelReason.SERVER_SHUTDOWN, at


async def test_the_client_leaving_at_every_await(scenario: Schedule) -> None:
    """The request ends with no exception but the app's own, and nothing is left."""
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
    raise AssertionError("the scenario never ends")


async def test_a_cancellation_of_the_app_s_own_producer_at_every_await(
    scenario: Schedule, strike: str
) -> None:
    """The stream completes with all its bytes, and neither token nor report gets a cause.

    What an app does to its own tasks is no disconnect.
    """
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
    raise AssertionError("the scenario never ends")


async def test_a_failure_of_every_write(scenario: Schedule) -> None:
    """The failure reaches the token, the report and the app's `send` once, and nothing is left."""
    for number in range(MOST):
        faults = (Fault("fail", number), *scenario.faults)
        play = StruckPlay(Schedule(**{**vars(scenario), "faults": faults}), "leave", MOST)
        trace = await play.run()
        check_once_and_in_order(play)
        if len(trace.writes) <= number:
            return
        assert trace.error is trace.raised, number
        assert trace.reports[0].reason is CancelReason.SEND_FAILED, number
    raise AssertionError("the scenario never ends")
