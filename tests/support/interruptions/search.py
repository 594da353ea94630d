"""Which cases are tried."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Final, Protocol

from .case import ASKINGS, CLOSINGS, GRACES, SENDINGS, Case, LoopName, Scenario
from .record import Record
from .verdict import faults

PER_KIND: Final = 5


class RunsCases(Protocol):
    def run(self, case: Case) -> tuple[Record, int]:
        """Return what happened, and the number of steps until the middleware had returned."""


@dataclass
class Findings:
    """The faults of many cases."""

    cases: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """How often each kind was found. A kind is what comes before the colon."""
    lines: dict[str, dict[tuple[str, str], str]] = field(default_factory=dict)
    """A few reproducers of each kind, of different apps."""

    def add(self, case: Case, found: list[str]) -> None:
        self.cases += 1
        for fault in found:
            kind = fault.partition(":")[0]
            self.kinds[kind] += 1
            lines = self.lines.setdefault(kind, {})
            scenario = case.scenario
            if len(lines) < PER_KIND:
                lines.setdefault((scenario.app, scenario.asking), f"{case}  ->  {fault:.200}")

    def __str__(self) -> str:
        return "\n".join(
            f"{number} x {kind}\n" + "\n".join(f"    {line}" for line in self.lines[kind].values())
            for kind, number in self.kinds.most_common()
        )


def singles(runner: RunsCases, scenario: Scenario, findings: Findings) -> list[tuple[Case, int]]:
    """Try every event at every step. Return the cases, with their numbers of steps."""
    plain = Case(scenario)
    record, steps = runner.run(plain)
    findings.add(plain, faults(plain, record))
    tried = []
    for name in scenario.events:
        for step in range(1, steps + 1):
            case = Case(scenario, ((name, step),))
            record, length = runner.run(case)
            findings.add(case, faults(case, record))
            tried.append((case, length))
    return tried


def pairs(cases: list[tuple[Case, int]]) -> Iterator[Case]:
    """Yield every case with one more event, at the same step or at a later one."""
    for case, length in cases:
        ((_, first),) = case.events
        for name in case.scenario.events:
            for step in range(first, length + 1):
                yield Case(case.scenario, (*case.events, (name, step)))


def every_scenario(loop: LoopName, app: str) -> Iterator[Scenario]:
    """Yield this app with each way to send and each way to ask, and with the rest in turns."""
    for number, (asking, sending) in enumerate(product(ASKINGS, SENDINGS)):
        grace = GRACES[(number + number // len(SENDINGS)) % len(GRACES)]
        closing = CLOSINGS[number // len(GRACES) % len(CLOSINGS)]
        yield Scenario(loop, app, sending, asking, grace, closing)


def some_scenarios(loop: LoopName, app: str) -> Iterator[Scenario]:
    """Yield this app with each way to ask, and with the rest chosen at random."""
    chosen = random.Random(app)
    for asking in ASKINGS:
        yield Scenario(
            loop,
            app,
            chosen.choice(SENDINGS),
            asking,
            chosen.choice(GRACES),
            chosen.choice(CLOSINGS),
        )


def search(
    runner: RunsCases, scenarios: Iterable[Scenario], *, pairs_of_each: int, share: float = 0
) -> Findings:
    """Try every single interruption of these scenarios, and some pairs of each.

    `pairs_of_each`: how many pairs. `share`: that share of all pairs, if it is more.
    """
    findings = Findings()
    for scenario in scenarios:
        found = list(pairs(singles(runner, scenario, findings)))
        number = max(min(pairs_of_each, len(found)), int(share * len(found)))
        for case in random.Random(str(scenario)).sample(found, number):
            findings.add(case, faults(case, runner.run(case)[0]))
    return findings
