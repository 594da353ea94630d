"""docs/performance.md says what the last run of the benchmarks has found."""

from __future__ import annotations

import pytest

from benchmarks.instructions import table
from benchmarks.report import PERFORMANCE, place
from benchmarks.targets import TARGETS, Target, written

IN_RESULTS = [target for target in TARGETS if "token.cancelled" not in target.title]


@pytest.mark.parametrize("target", IN_RESULTS, ids=lambda it: it.title)
def test_each_target_stands_beside_what_was_found(target: Target) -> None:
    """As `python -m benchmarks.targets --write` puts it there: no figure is written by hand."""
    assert target.row(written()) in PERFORMANCE.read_text()


def test_the_instructions_of_a_request_are_those_that_were_counted() -> None:
    """As `python -m benchmarks.instructions --write` puts them there."""
    found = place("requests").search(PERFORMANCE.read_text())

    assert found is not None
    assert found[0] == f"{found[1]}\n{table(written()['requests'])}\n{found[2]}"
