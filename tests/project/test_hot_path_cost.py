"""What the hot paths cost, in counts that are the same on every machine. No test asserts a time."""

from __future__ import annotations

import pytest

from benchmarks import guard


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_hot_paths_cost_what_is_written_down() -> None:
    """Neither more, which is a loss; nor less, so that what was won is written down, and kept."""
    expected = guard.written().get(guard.VERSION)
    if expected is None:
        pytest.skip(f"nothing is written down for Python {guard.VERSION}")

    changes = guard.differences(guard.measure_apart(), expected)

    assert not changes, "if it is meant to be: python -m benchmarks.guard --write"


def test_a_loss_of_a_tenth_is_seen() -> None:
    """The comparison names what has changed, and by how much; small changes pass."""
    before = {"request": {"bytecodes": 100.0, "calls": 10.0}}

    assert not guard.differences({"request": {"bytecodes": 101.0, "calls": 10.0}}, before)
    assert guard.differences({"request": {"bytecodes": 110.0, "calls": 10.0}}, before) == [
        "request: 110 bytecodes, +10.0% against 100"
    ]
    assert guard.differences({"request": {"bytecodes": 100.0, "calls": 9.0}}, before)
