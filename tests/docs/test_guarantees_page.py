"""docs/guarantees.md names a test for each guarantee, and each of the tests exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "guarantees.md").read_text()
ROWS = dict(re.findall(r"^\| ([DFM]\d+) \| (.*) \|$", PAGE, re.MULTILINE))


def test_every_guarantee_is_there() -> None:
    """The page has D1 to D7, F1 to F11 and M1 to M12, each once."""
    count = {"D": 7, "F": 11, "M": 12}
    assert list(ROWS) == [f"{kind}{n}" for kind in count for n in range(1, count[kind] + 1)]


@pytest.mark.parametrize("guarantee", ROWS)
def test_the_tests_of_a_guarantee_exist(guarantee: str) -> None:
    """The page has to follow when a test is renamed or removed."""
    named = re.findall(r"`((?:\w+/)*test_\w+\.py)(?:::(\w+))?`", ROWS[guarantee])
    assert named
    for file, function in named:
        assert f"def {function}" in (TESTS / file).read_text(), f"{file}::{function}"
