"""docs/performance.md shows the figures of the last run of the benchmarks."""

from __future__ import annotations

import pytest

from benchmarks.instructions import table
from benchmarks.report import PERFORMANCE, Spread, place
from benchmarks.targets import TARGETS, Target, written

IN_RESULTS = [target for target in TARGETS if "token.cancelled" not in target.title]


@pytest.mark.parametrize("target", IN_RESULTS, ids=lambda it: it.title)
def test_each_target_is_shown_with_its_measured_figure(target: Target) -> None:
    """`python -m benchmarks.targets --write` writes the rows. No figure is written by hand."""
    assert target.row(written()) in PERFORMANCE.read_text()


def test_the_instructions_of_a_request_are_those_that_were_counted() -> None:
    """`python -m benchmarks.instructions --write` writes the table."""
    found = place("requests").search(PERFORMANCE.read_text())

    assert found is not None
    assert found[0] == f"{found[1]}\n{table(written()['requests'])}\n{found[2]}"


def test_a_figure_that_was_not_measured_is_shown_as_such() -> None:
    """A run of some workloads has no figures for the others."""
    target = TARGETS[0]

    assert target.row({}) == f"| {target.title} | 0.2 | 0.1 | not measured | |"


@pytest.mark.parametrize(("found", "verdict"), [(0.1, "goal"), (0.2, "yes"), (0.21, "no")])
def test_a_figure_is_compared_with_its_target(found: float, verdict: str) -> None:
    """The verdict is that of the median."""
    spread: Spread = {"median": found, "least": 0.0, "most": 1.0}
    target = TARGETS[0]._replace(found=lambda results: spread)

    assert target.row({}).endswith(f"| 0.2 | 0.1 | {found:g} (0 to 1) | {verdict} |")
