"""The import contracts of pyproject.toml can fail, and what they forbid is not loaded either."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.servers import REPOSITORY

PACKAGE: Final = REPOSITORY / "sse_batching"
SETTINGS: Final = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS: Final[dict[str, dict[str, Any]]] = {
    contract["id"]: contract for contract in SETTINGS["tool"]["importlinter"]["contracts"]
}
PURE: Final[list[str]] = CONTRACTS["pure"]["source_modules"]

BREAKS: Final = [
    ("_receiver.py", "from ._exchange import Exchange", {"layers"}),
    ("_receiver.py", "from ._writer import BatchWriter", {"layers"}),
    ("_receiver.py", "from . import CancelReason", {"layers"}),
    ("_receiver.py", "def later():\n    import sse_batching.middleware", {"layers"}),
    ("_receiver.py", "if TYPE_CHECKING:\n    from .middleware import logger", {"layers"}),
    ("middleware.py", "from .testing import Conversation", {"layers"}),
    ("_new_module.py", "import re", {"layers"}),
    ("_loop/_timers.py", "from ._asyncio import AsyncioLoop", {"cycles"}),
    ("_merging/_values.py", "from ._rules import Rule", {"cycles"}),
    ("_buffer.py", "from time import monotonic", {"pure"}),
    ("_merging/_values.py", "import anyio.lowlevel", {"pure"}),
    ("report.py", "import uvloop", {"pure", "event-loops"}),
    ("_sse.py", "from ._cause import Cause", {"layers", "pure"}),
    ("_writer.py", "from asyncio import sleep", {"event-loops"}),
    ("_loop/_timers.py", "import asyncio", {"event-loops"}),
    ("cancellation.py", "from starlette.requests import Request", {"asgi"}),
    ("_loop/_timers.py", "from .._types import Send", {"asgi"}),
]
"""A file of the package, a line to add, and the contracts that this breaks."""


def broken_contracts(repository: Path) -> set[str]:
    """Run `lint-imports` in a folder, and return the ids of the contracts that are broken there."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=repository,
        env=os.environ | {"COLUMNS": "200"},  # so that each contract has a line of its own
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    results = dict(re.findall(r"^(.+) (KEPT|BROKEN)\b", done.stdout, re.MULTILINE))
    assert results.keys() == {contract["name"] for contract in CONTRACTS.values()}, done.stdout
    broken = {key for key, it in CONTRACTS.items() if results[it["name"]] == "BROKEN"}
    assert done.returncode == bool(broken)
    return broken


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a folder with a copy of the package and of its contracts."""
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_package_keeps_its_contracts(copy: Path) -> None:
    """A contract that is broken below is broken by the added line, and not by the package."""
    assert broken_contracts(copy) == set()


@pytest.mark.parametrize(("file", "line", "contracts"), BREAKS)
def test_a_contract_can_fail(copy: Path, file: str, line: str, contracts: set[str]) -> None:
    """`lint-imports` finds an import wherever it is, however it is written."""
    with (copy / PACKAGE.name / file).open("a", encoding="utf-8") as module:
        module.write(f"\n{line}\n")

    assert broken_contracts(copy) == contracts


def test_each_contract_is_broken_once() -> None:
    """A contract that nothing breaks could be one that nothing can break."""
    assert set().union(*(contracts for _, _, contracts in BREAKS)) == CONTRACTS.keys()


LOAD_WITHOUT_THE_REST: Final = """
import importlib, json, sys, types
path, *names = sys.argv[1:]
package = types.ModuleType("sse_batching")  # in place of the one that imports all the rest
package.__path__ = [path]
sys.modules["sse_batching"] = package
before = set(sys.modules)
for name in names:
    importlib.import_module(name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_the_pure_modules_load_without_an_event_loop() -> None:
    """The pure modules load no event loop, thread or log through a package that they import.

    `lint-imports` does not look into other packages.
    """
    command = [sys.executable, "-c", LOAD_WITHOUT_THE_REST, str(PACKAGE), *PURE]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=50).stdout
    loaded = set(json.loads(output))

    assert set(PURE) <= loaded
    assert not loaded & {"anyio", "asyncio", "logging", "socket", "threading", "trio", "uvloop"}


def test_the_package_loads_without_trio() -> None:
    """Users of asyncio need no trio: the package imports it only where trio is already running."""
    code = "import sys; sys.modules['trio'] = None; import sse_batching, sse_batching.testing"

    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, timeout=50)
