"""Which cases are tried."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from .case import Case, Scenario
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


def sample_of_pairs(
    cases: list[tuple[Case, int]], share: float, random_: random.Random
) -> Iterator[Case]:
    """Yield so large a share of the pairs."""
    return (case for case in pairs(cases) if random_.random() < share)


def search(
    runner: RunsCases,
    scenarios: list[Scenario],
    share: float,
    on_progress: Callable[[Findings], None] = lambda findings: None,
) -> Findings:
    """Try all single interruptions of these scenarios, and a share of the pairs."""
    findings = Findings()
    random_ = random.Random(0)
    for scenario in scenarios:
        found = singles(runner, scenario, findings)
        for case in sample_of_pairs(found, share, random_):
            findings.add(case, faults(case, runner.run(case)[0]))
        on_progress(findings)
    return findings
