"""Check that the tests hold the rules of merging: break each rule, and see a test fail.

    python -m tests.merging.mutations                 # all mutants: a quarter of an hour
    python -m tests.merging.mutations --only anthropic
    python -m tests.merging.mutations -- --deselect tests/merging/test_rules.py::test_x

A mutant is a small change of the source, in a copy of the project. The arguments after `--` are for
pytest. The run fails unless each mutant is killed. A mutant is STALE if its old text is not in the
source exactly once, and BROKEN if its source cannot be imported: update `mutants_of_*.py` then.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.merging.mutants import MUTANTS, Mutant

PROJECT: Final = Path(__file__).parents[2]
TESTS: Final = [
    "tests/unit/test_sse_events.py",
    "tests/merging/test_rules.py",
    "tests/merging/test_limits.py",
    "tests/merging/test_plain_text.py",
    "tests/merging/test_rules_chat.py",
    "tests/merging/test_rules_responses.py",
    "tests/merging/test_rules_agents.py",
    "tests/merging/test_rules_others.py",
    "tests/merging/test_delta_format.py",
    "tests/merging/test_rules_hostile.py",
    "tests/merging/test_which_responses_are_merged.py",
    "tests/merging/test_lines_of_json.py",
    "tests/merging/test_number_of_writes.py",
    "tests/merging/test_merged_responses.py",
]
COPIED: Final = ("sse_batching", "tests", "pyproject.toml")
PATIENCE: Final = 300
"""Seconds after which a mutant whose tests do not end counts as killed."""

KILLED: Final = "killed"
SURVIVED: Final = "SURVIVED"


def outcome(copy: Path, options: Sequence[str]) -> str:
    """Return the outcome of the tests in the copy."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--hypothesis-seed=0"]
    # Without bytecode files, because a change within the same second would not be noticed.
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(copy)}
    try:
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider", *options, *TESTS],
            cwd=copy,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return KILLED
    return {0: SURVIVED, 1: KILLED}.get(done.returncode, "BROKEN")


def verdict(copy: Path, mutant: Mutant, options: Sequence[str]) -> str:
    """Return the outcome for a mutant, and restore the copy."""
    path = copy / "sse_batching" / mutant.file
    source = path.read_text()
    if source.count(mutant.old) != 1:
        return "STALE"
    try:
        path.write_text(source.replace(mutant.old, mutant.new))
        return outcome(copy, options)
    finally:
        path.write_text(source)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description="Break each rule of merging, and see if a test fails."
    )
    parser.add_argument(
        "--only", default="", help="only mutants with this text in their rule or file"
    )
    parser.add_argument("pytest", nargs="*", help="options for pytest, after --")
    options = parser.parse_args(arguments)
    chosen = [mutant for mutant in MUTANTS if options.only in f"{mutant.file} {mutant.rule}"]
    bad: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            original = PROJECT / name
            if original.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "node_modules")
                shutil.copytree(original, copy / name, ignore=ignored)
            else:
                shutil.copy(original, copy)
        if outcome(copy, options.pytest) != SURVIVED:
            print("The tests fail without any mutant.")
            return 2
        for number, mutant in enumerate(chosen, 1):
            began = time.monotonic()
            found = verdict(copy, mutant, options.pytest)
            seconds = time.monotonic() - began
            line = f"{found:8} {seconds:5.1f} s  {mutant.file}: {mutant.rule}"
            print(f"{number:3}/{len(chosen)} {line}", flush=True)
            if found != KILLED:
                bad.append(line)
    print(f"{len(chosen) - len(bad)} of {len(chosen)} mutants were killed.", *bad, sep="\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
