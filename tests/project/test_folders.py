"""tests/README.md has every folder of tests, its target, and the unit tests of every module."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.support.servers import REPOSITORY

TESTS: Final = Path(__file__).parents[1]
ROWS: Final[dict[str, str]] = dict(
    re.findall(
        r"^\| `([\w/]+)/` \| .+ \| (.*) \|$", (TESTS / "README.md").read_text(), re.MULTILINE
    )
)
"""The target that runs each folder."""

UNIT: Final[dict[str, str]] = dict(
    re.findall(r"^\| `([\w/]*\w)` \| (.+) \|$", (TESTS / "README.md").read_text(), re.MULTILINE)
)
"""The unit tests of each module, or the reason why a module has none."""

FAST: Final = {folder for folder, run_by in ROWS.items() if run_by == "`make test-fast`"}


def test_every_folder_is_on_the_map() -> None:
    """Each folder of tests has a row, and each row has a folder."""
    folders = {path.parent.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py")}

    assert set(ROWS) == folders | {"support"}


def test_a_target_that_runs_a_folder_exists() -> None:
    """The Makefile has each target that the map names."""
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))

    assert {run_by for run_by in ROWS.values() if run_by} <= {f"`make {it}`" for it in targets}


def test_every_module_is_on_the_map_with_its_unit_tests() -> None:
    """Each module of the core has a row, and each unit test is in the row of a module."""
    package = REPOSITORY / "sse_batching"
    modules = {
        path.relative_to(package).with_suffix("").as_posix()
        for folder in (package, package / "_loop")
        for path in folder.glob("*.py")
    }
    tests = {path.stem for path in (TESTS / "unit").glob("test_*.py")}

    assert set(UNIT) == modules - {"__init__"}
    assert set(re.findall(r"`(test_\w+)`", " ".join(UNIT.values()))) == tests


@pytest.mark.slow
def test_the_fast_tests_are_those_of_the_map() -> None:
    """`make test-fast` collects tests of each folder that the map gives it, and of no other."""
    makefile = (REPOSITORY / "Makefile").read_text().replace("\\\n", " ")
    recipe = re.search(r"^test-fast:.*\n\t.* -m pytest -n 2 (.+)$", makefile, re.MULTILINE)
    assert recipe
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    collected = subprocess.run(
        [*command, *shlex.split(recipe[1])],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    ).stdout
    counts = Counter(re.findall(r"^tests/([\w/]+)/test_\w+\.py::", collected, re.MULTILINE))

    assert set(counts) == FAST
