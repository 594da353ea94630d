"""Whatever is cancelled, by whom and how often, a request ends as it should (D5, F1, F8, F9).

Each test runs a request once, and then again for each step of its event loop, with an interruption
before that step: the server cancels the request, its time is over, the client leaves, a write
fails, somebody cancels the token. Then pairs of interruptions. Afterwards:

- what the app's `send` has accepted is written, or counted as undelivered;
- no task and no timer of the middleware is left, and nothing cancels the server's code later;
- there is one report, and it is true;
- the app's own exception comes out, and is the exception of the report;
- each cancellation from outside comes out once, and no other one does.

`python -m tests.support.interruptions` runs one case again.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Final

import pytest

from tests.support.interruptions import on_asyncio
from tests.support.interruptions.apps import APPS
from tests.support.interruptions.case import Case, Scenario
from tests.support.interruptions.search import Findings, pairs, singles
from tests.support.interruptions.verdict import faults

SHARE: Final = float(os.environ.get("SSE_BATCHING_PAIRS", "0.01"))
"""The share of the pairs to try. 1: all."""


@pytest.fixture
def runner() -> Iterator[on_asyncio.Runner]:
    runner = on_asyncio.Runner()
    yield runner
    runner.close()


@pytest.mark.parametrize("asking", ["no", "asks", "task", "soon"])
@pytest.mark.parametrize("app", APPS)
def test_interrupted_at_every_step(runner: on_asyncio.Runner, app: str, asking: str) -> None:
    """The request ends as it should."""
    findings = Findings()
    random_ = random.Random(app + asking)
    scenario = Scenario("asyncio", app, asking=asking)  # type: ignore[arg-type]
    cases: list[tuple[Case, int]] = singles(runner, scenario, findings)
    for case in pairs(cases):
        if random_.random() < SHARE:
            findings.add(case, faults(case, runner.run(case)[0]))
    assert not findings.kinds, f"\n{findings}"
