"""docs/pitfalls.md has every pitfall, and agrees with the docstrings of the tests that it names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).parents[1]
PAGE: Final = (TESTS.parent / "docs" / "pitfalls.md").read_text()
ROWS: Final = re.findall(r"^\| (\d+) \| (.+) \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)
LAST: Final = 73

NUMBERS: Final = re.compile(r"\bPitfalls? (\d+(?:(?:, | and )\d+)*)\.$")
"""How the docstring of a test ends: "Pitfall 3.", "Pitfalls 3, 4 and 5."."""


def each_docstring() -> Iterator[tuple[str, str]]:
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name.startswith("test_"):
                name = f"{path.relative_to(TESTS).as_posix()}::{node.name}"
                yield name, " ".join((ast.get_docstring(node) or "").split())


def claims(docstring: str) -> set[int]:
    found = NUMBERS.search(docstring)
    return set(map(int, re.findall(r"\d+", found[1]))) if found else set()


CLAIMS: Final = {name: claims(docstring) for name, docstring in each_docstring()}


def test_every_pitfall_is_there_once() -> None:
    """The rows are numbered from 1 to the last, in order."""
    assert [int(number) for number, *_ in ROWS] == list(range(1, LAST + 1))


@pytest.mark.parametrize(("number", "held_by"), [(row[0], row[3]) for row in ROWS])
def test_the_tests_of_a_pitfall_exist_and_name_it(number: str, held_by: str) -> None:
    """The page names the tests whose docstrings name the pitfall, or says why there is no test."""
    named = set(re.findall(r"`([\w/]+\.py::\w+)`", held_by))
    assert named == {name for name, numbers in CLAIMS.items() if int(number) in numbers}
    assert named or held_by.startswith("Cannot reach it. ")


def test_no_docstring_names_a_pitfall_in_another_way() -> None:
    """A docstring that names a pitfall ends as NUMBERS says, so that this module finds it."""
    stray = [
        name
        for name, docstring in each_docstring()
        if re.search(r"\b[Pp]itfalls? #?\d", docstring) and not CLAIMS[name]
    ]
    assert stray == []
