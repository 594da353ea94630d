"""The cost of the hot paths, in counts that are equal on every machine. No test asserts a time."""

from __future__ import annotations

import pytest

from benchmarks import guard


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_hot_paths_cost_what_was_recorded() -> None:
    """A higher count is a loss. A lower count has to be recorded, so that the gain is kept."""
    expected = guard.written().get(guard.VERSION)
    if expected is None:
        pytest.skip(f"no counts are recorded for Python {guard.VERSION}")

    changes = guard.differences(guard.measure_apart(), expected)

    assert not changes, "if the change is intended, run: python -m benchmarks.guard --write"


def test_a_change_of_ten_percent_is_reported() -> None:
    """The comparison says what has changed, and by how much. Small changes pass."""
    before = {"request": {"bytecodes": 100.0, "calls": 10.0}}

    assert not guard.differences({"request": {"bytecodes": 101.0, "calls": 10.0}}, before)
    assert guard.differences({"request": {"bytecodes": 110.0, "calls": 10.0}}, before) == [
        "request: 110 bytecodes, +10.0% against 100"
    ]
    assert guard.differences({"request": {"bytecodes": 100.0, "calls": 9.0}}, before)
