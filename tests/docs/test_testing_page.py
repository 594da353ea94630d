"""The examples in docs/testing.md are tests, and they pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import REPOSITORY

pytestmark = pytest.mark.slow

AGENT_IS_WIRED = "    current_token().register(task.cancel)  # without this line the test fails\n"


def examples() -> list[str]:
    text = (REPOSITORY / "docs" / "testing.md").read_text()
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(folder: Path, *sources: str) -> subprocess.CompletedProcess[str]:
    for number, source in enumerate(sources):
        (folder / f"test_example_{number}.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "."]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_every_example_passes(tmp_path: Path) -> None:
    """Each example passes when a user copies it into a file of its own."""
    result = run(tmp_path, *examples())

    assert result.returncode == 0, result.stdout
    assert f"{len(examples())} passed" in result.stdout


def test_the_first_example_fails_if_nothing_stops_the_agent(tmp_path: Path) -> None:
    """A comment in the example says that it fails without the line that stops the agent."""
    source = examples()[0]
    assert AGENT_IS_WIRED in source

    result = run(tmp_path, source.replace(AGENT_IS_WIRED, ""))

    assert "1 failed" in result.stdout, result.stdout
