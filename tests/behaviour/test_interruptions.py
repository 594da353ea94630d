"""Whatever is cancelled, by whom and how often, a request ends as it should (D5, F1, F8, F9).

Each test serves a request once, and then again for each step of the event loop, with an
interruption before that step: the server cancels the request, a time limit around the middleware
expires, the client leaves, a write fails, or somebody cancels the token. Then it tries pairs of
interruptions. Each time:

- what the app's `send` accepted is written, or counted as undelivered;
- no task and no timer of the middleware is left, and nothing cancels the server's code later;
- `on_close` is called once, with a report that is true;
- the app's own exception comes out, and is in the report;
- each cancellation from outside comes out once, and no other cancellation does.

A failure lists the faults by kind, with the lines that `python -m tests.support.interruptions`
takes. `SSE_BATCHING_PAIRS=0.1` tries a tenth of all pairs, 1 tries all of them.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing
from itertools import product
from typing import Final

import pytest

from tests.support.interruptions import on_asyncio, on_trio
from tests.support.interruptions.apps import APPS
from tests.support.interruptions.case import OUTSIDE, Case, LoopName, Scenario
from tests.support.interruptions.search import every_scenario, search, some_scenarios
from tests.support.interruptions.verdict import faults_of_cancellation

SHARE: Final = float(os.environ.get("SSE_BATCHING_PAIRS", "0"))
LOOPS: Final[list[LoopName]] = ["asyncio", "trio"]
if sys.version_info >= (3, 12):
    LOOPS.append("eager")


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> LoopName:
    name: LoopName = request.param
    return name


def make_runner(loop: LoopName, *, bare: bool = False) -> on_trio.Runner | on_asyncio.Runner:
    if loop == "trio":
        return on_trio.Runner(bare=bare)
    return on_asyncio.Runner(eager=loop == "eager", bare=bare)


@pytest.mark.parametrize("app", APPS)
def test_a_request_interrupted_at_any_step_ends_as_it_should(loop: LoopName, app: str) -> None:
    """Everything is stopped and accounted for, and the right exception comes out. Pitfall 90."""
    scenarios = list(some_scenarios(loop, app))
    if loop == "trio":  # several times slower
        del scenarios[1:]
    with closing(make_runner(loop)) as runner:
        findings = search(runner, scenarios, pairs_of_each=30)
    assert not findings.kinds, f"\n{findings}"


@pytest.mark.slow
@pytest.mark.parametrize("app", APPS)
def test_a_request_interrupted_twice_ends_as_it_should(loop: LoopName, app: str) -> None:
    """The same with every server and every way to ask for the token, and with more pairs."""
    scenarios = list(every_scenario(loop, app))
    if loop == "trio":
        scenarios = scenarios[::4]
    with closing(make_runner(loop)) as runner:
        findings = search(runner, scenarios, pairs_of_each=50, share=SHARE)
    assert not findings.kinds, f"\n{findings}"


def test_the_rules_for_cancellations_are_those_of_the_event_loop(loop: LoopName) -> None:
    """Without the middleware, the cancellations that come out are those that the rules ask for."""
    found: list[str] = []
    with closing(make_runner(loop, bare=True)) as runner:
        for app in APPS:
            plain = Case(Scenario(loop, app, "yields", "no"))
            steps = range(1, runner.run(plain)[1] + 1, 1 if loop != "trio" else 3)
            for step, name, second in product(steps, OUTSIDE, (0, 1, 2)):
                case = Case(plain.scenario, ((name, step), ("cancel", step + second)))
                found += faults_of_cancellation(case, runner.run(case)[0])
    assert found == []
