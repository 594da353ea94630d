"""The short form of `make soak`: hundreds of streams through one server, half of them left."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.soak.client import Seen
from tests.soak.findings import UNKNOWN, Findings
from tests.soak.plan import ENDLESS, Order, Plan, Point, Way, draw
from tests.soak.record import Record, State
from tests.soak.rules import LEFT, STALLED, faults
from tests.support.servers import REPOSITORY


def test_nothing_is_lost_and_nothing_is_left_of_hundreds_of_streams() -> None:
    """The tokens of clients that left are cancelled, and no others. Clients that stayed have every
    byte, and the server is as it was before."""
    command = [sys.executable, "-m", "tests.soak", "--streams", "300", "--at-once", "100"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr


# The rules themselves: a soak that sees nothing would find nothing.

ORDER = Order(number=1, app="obeys", events=2, size=20, pace=0.0, before=0.0, first=0.0)
STAYS = Plan(order=ORDER, point=Point.NEVER, way=Way.FIN, reads=0, pause=0.0)
ANSWER = ORDER.body(0)
ALL = Seen(status=200, body=bytearray(ANSWER), complete=True)
COMPLETED = Record(
    number=1,
    asked=True,
    outcome="completed",
    bytes_in=len(ANSWER),
    last_began=True,
    last_taken=True,
)

LEAVES = dataclasses.replace(
    STAYS, order=dataclasses.replace(ORDER, events=ENDLESS), point=Point.MIDDLE
)
PART = Seen(status=200, body=bytearray(ANSWER[:30]))
CUT = Record(
    number=1,
    asked=True,
    cancellations=[LEFT],
    outcome="incomplete",
    reason=LEFT,
    told=True,
    told_before_last=True,
)
LATE = dataclasses.replace(STAYS, point=Point.LAST_WRITE)
TOLD_IN_LAST = dataclasses.replace(COMPLETED, told=True)

RIGHT = {
    "stayed": (STAYS, ALL, COMPLETED),
    "left": (LEAVES, PART, CUT),
    "left-in-the-last-write-and-is-completed": (LATE, PART, TOLD_IN_LAST),
    "left-in-the-last-write-and-is-cut": (LATE, PART, CUT),
    "left-before-the-server-read-it": (
        dataclasses.replace(LEAVES, point=Point.BEFORE_START, way=Way.RST),
        Seen(),
        None,
    ),
}


@pytest.mark.parametrize(("plan", "seen", "record"), RIGHT.values(), ids=RIGHT)
def test_what_is_right_breaks_no_rule(plan: Plan, seen: Seen, record: Record | None) -> None:
    """Of a client that leaves with the last write, both ends are right."""
    assert list(faults(plan, seen, record)) == []


def record(base: Record, **changes: object) -> Record:
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


WRONG: dict[str, tuple[Plan, Seen, Record | None]] = {
    "byte-lost": (STAYS, dataclasses.replace(ALL, body=ALL.body[:-1]), COMPLETED),
    "byte-doubled": (LEAVES, dataclasses.replace(PART, body=PART.body[:1] + PART.body), CUT),
    "stayed-and-cut": (STAYS, ALL, CUT),
    "stayed-and-cancelled-later": (STAYS, ALL, record(COMPLETED, cancellations=[LEFT])),
    "stayed-and-the-end-is-missing": (STAYS, dataclasses.replace(ALL, complete=False), COMPLETED),
    "no-record": (STAYS, ALL, None),
    "left-and-completed": (LEAVES, PART, COMPLETED),
    "left-and-token-not-cancelled": (LEAVES, PART, record(CUT, cancellations=[])),
    "left-and-token-cancelled-twice": (LEAVES, PART, record(CUT, cancellations=[LEFT, LEFT])),
    "left-and-another-reason": (LEAVES, PART, record(CUT, reason=STALLED, cancellations=[STALLED])),
    "left-and-nobody-said-so": (LEAVES, PART, record(CUT, told=False)),
    "left-and-has-all": (LATE, ALL, CUT),
    "left-before-the-last-message": (LATE, PART, record(TOLD_IN_LAST, told_before_last=True)),
    "generator-closed-late": (LEAVES, PART, record(CUT, closed_late=5.0)),
    "something-left": (STAYS, ALL, record(COMPLETED, left=["context variable"])),
}


@pytest.mark.parametrize(("plan", "seen", "record"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_found(plan: Plan, seen: Seen, record: Record | None) -> None:
    """One thing that is not as it should be is enough."""
    assert list(faults(plan, seen, record)) != []


def findings(**end: object) -> Findings:
    """Of a run that left the server as it was, but for what is said."""
    objects = {"sse_batching.middleware.SSEBatchingMiddleware": 1, "builtins.cell": 1_000}
    state = State(
        process=1,
        tasks=3,
        descriptors=16,
        threads=1,
        registered=0,
        open=0,
        late=0,
        uncollected={},
        objects=objects,
        log={},
    )
    found = Findings(streams=1_000)
    found.memory = [100_000_000] * 100
    found.states = {"begin": state, "warm": state, "end": dataclasses.replace(state, **end)}  # type: ignore[arg-type]
    return found


def test_a_server_that_is_as_it_was_is_right() -> None:
    """Nothing more, nothing less."""
    found = findings()
    found.judge()
    assert found.faults == []


LEFT_BEHIND = {
    "task": {"tasks": 4},
    "descriptor": {"descriptors": 17},
    "threads": {"threads": 40},
    "callback": {"registered": 1},
    "request": {"open": 1},
    "late-cancellation": {"late": 1},
    "object-of-ours": {"objects": {"sse_batching._exchange.Exchange": 1}},
    "objects-of-others": {"objects": {"builtins.cell": 2_000}},
    "line-in-the-log": {"log": {"asyncio ERROR": 1}},
    "line-for-nobody": {"log": {"sse_batching INFO": 1}},
}


@pytest.mark.parametrize("end", LEFT_BEHIND.values(), ids=LEFT_BEHIND)
def test_what_is_left_is_found(end: dict[str, object]) -> None:
    """Whatever there is more of at the end than there was before."""
    found = findings(**end)
    found.judge()
    assert len(found.faults) == 1


SPOILED: dict[str, Callable[[Findings], object]] = {
    "memory": lambda found: found.memory.__setitem__(slice(75, 100), [110_000_000] * 25),
    "requests-lost": lambda found: found.outcomes.update({UNKNOWN: 40}),
    "output": lambda found: found.output.append("Traceback (most recent call last):"),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_what_a_run_shows_besides_is_found(spoil: Callable[[Findings], object]) -> None:
    """Memory that grows in the second half, and anything the server complains of."""
    found = findings()
    spoil(found)
    found.judge()
    assert len(found.faults) == 1


def test_a_plan_can_be_drawn_again() -> None:
    """The seed and the number of a stream are all that it takes to have another look at it."""
    assert [draw(7, number) for number in range(100)] == [draw(7, number) for number in range(100)]


def test_half_of_the_clients_leave() -> None:
    """In every way and at every point that there is."""
    plans = [draw(7, number) for number in range(4_000)]
    assert 0.45 < sum(plan.leaves for plan in plans) / len(plans) < 0.55
    assert {plan.point for plan in plans} == set(Point)
    assert {plan.way for plan in plans if plan.leaves} == set(Way)
