"""docs/performance.md says what the last run of the benchmarks has found."""

from __future__ import annotations

import json

import pytest

from benchmarks.report import RESULTS
from benchmarks.targets import PAGE, TARGETS, Target

IN_RESULTS = [target for target in TARGETS if "token.cancelled" not in target.title]


@pytest.mark.parametrize("target", IN_RESULTS, ids=lambda it: it.title)
def test_each_target_stands_beside_what_was_found(target: Target) -> None:
    """As `python -m benchmarks.targets --write` puts it there: no figure is written by hand."""
    streams, cancellation = (
        json.loads((RESULTS / name).read_text()) for name in ("latest.json", "cancellation.json")
    )

    assert target.row(streams, cancellation) in PAGE.read_text()
