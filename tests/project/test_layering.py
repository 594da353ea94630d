"""The floors of the package: each module imports only from floors below its own."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import sse_batching

PACKAGE: Final = Path(sse_batching.__file__).parent

PURE, EFFECTS, DRIVER, FACE = range(4)

FLOORS: Final[dict[int, set[str]]] = {
    PURE: {
        "_coalescing",
        "_framing",
        "_merging",
        "_options",
        "_policy",
        "_states",
        "_typing",
        "exceptions",
        "formats",
        "reasons",
        "report",
    },
    EFFECTS: {"_ending", "_scheduling", "_writing", "cancellation"},
    DRIVER: {"_receiving", "_stream"},
    FACE: {"__init__", "_aftermath", "_context", "_exchange", "_refusing", "middleware", "testing"},
}

SIDEWAYS: Final = {
    ("_ending", "_scheduling"),
    ("_ending", "cancellation"),
    ("_writing", "_scheduling"),
}
"""Who may import whom on the floor of the effects: what two effects make together."""

SAME_FLOOR: Final = {PURE, FACE}
"""Floors whose modules may import each other, if not in a circle."""

IMPURE: Final = {
    *("anyio", "asyncio", "concurrent", "contextvars", "logging", "multiprocessing", "os"),
    *("random", "secrets", "select", "selectors", "signal", "socket", "subprocess", "threading"),
    *("time", "trio", "uvloop"),
}
"""What does input and output, tells the time, waits, or starts threads."""

LOOPS: Final = {"asyncio", "trio", "uvloop"}
ASGI: Final = {"asgiref", "starlette", "_typing"}


def modules() -> dict[str, list[Path]]:
    """The files of the package by the module, or the folder, that has a place on a floor."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        inside = path.relative_to(PACKAGE)
        found.setdefault(inside.parts[0].removesuffix(".py"), []).append(path)
    return found


MODULES: Final = modules()
FLOOR_OF: Final = {name: floor for floor, names in FLOORS.items() for name in names}


def imported(source: str, depth: int = 1) -> Iterator[str]:
    """What a module imports: one of the package by its name in it, others by their first name.

    `depth`: how many dots lead to the package.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            paths = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if 0 < node.level < depth:
                continue  # from within a folder of the package: one place on a floor
            start = "sse_batching." * bool(node.level) + (node.module or "")
            paths = [f"{start.rstrip('.')}.{alias.name}" for alias in node.names]
        else:
            continue
        for path in paths:
            first, *rest = path.split(".")
            yield (rest[0] if rest else "__init__") if first == "sse_batching" else first


def imports_of(name: str) -> set[str]:
    """What the files of a module import, but for itself."""
    paths = MODULES[name]
    depths = {path: len(path.relative_to(PACKAGE).parts) for path in paths}
    found = {each for path in paths for each in imported(path.read_text(), depths[path])}
    return found - {name}


def by_floor(*floors: int) -> pytest.MarkDecorator:
    names = [name for floor in floors or FLOORS for name in FLOORS[floor]]
    return pytest.mark.parametrize("name", sorted(names))


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("import math, os.path", {"math", "os"}),
        ("from collections.abc import Callable", {"collections"}),
        ("from ._policy import header", {"_policy"}),
        ("from . import _policy, _states", {"_policy", "_states"}),
        ("import sse_batching._policy", {"_policy"}),
        ("from sse_batching import _policy", {"_policy"}),
        ("from sse_batching._policy import header", {"_policy"}),
        ("import sse_batching", {"__init__"}),
        ("if TYPE_CHECKING:\n    from ._policy import header", {"_policy"}),
        ("def later():\n    import asyncio", {"asyncio"}),
    ],
)
def test_no_way_to_import_is_overlooked(statement: str, names: set[str]) -> None:
    """These tests see an import wherever it stands, and however it is written."""
    assert set(imported(statement)) == names


def test_every_module_has_its_place() -> None:
    """Each file of the package is on one floor; a new one has to be put on one."""
    assert sorted(MODULES) == sorted(name for names in FLOORS.values() for name in names)


@by_floor()
def test_a_module_imports_only_from_below(name: str) -> None:
    """No module imports from a floor above, nor from its own but where that is said."""
    floor = FLOOR_OF[name]
    allowed = {other for other, below in FLOOR_OF.items() if below < floor}
    if floor in SAME_FLOOR:
        allowed |= FLOORS[floor]
    allowed |= {other for importer, other in SIDEWAYS if importer == name}

    assert imports_of(name) & FLOOR_OF.keys() <= allowed


def test_no_imports_go_round_in_a_circle() -> None:
    """The modules can be put in a row in which each imports only what comes before it."""
    left = {name: imports_of(name) & FLOOR_OF.keys() for name in FLOOR_OF}
    while ready := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in ready}

    assert not left


@by_floor(PURE)
def test_a_pure_module_has_no_means_for_effects(name: str) -> None:
    """On the floor of the pure there is no I/O, no clock, no async, no thread and no log."""
    assert not imports_of(name) & IMPURE


@by_floor(EFFECTS)
def test_an_effect_knows_nothing_of_asgi(name: str) -> None:
    """The floor of the effects would do for another protocol as well."""
    assert not imports_of(name) & ASGI


def test_only_scheduling_names_an_event_loop() -> None:
    """Whoever ports the package to another loop has one module to look at, and the test kit."""
    assert {name for name in MODULES if imports_of(name) & LOOPS} == {"_scheduling", "testing"}


LOAD_WITHOUT_THE_REST: Final = """
import importlib, json, sys, types
path, *names = sys.argv[1:]
package = types.ModuleType("sse_batching")  # in place of the one that imports all the rest
package.__path__ = [path]
sys.modules["sse_batching"] = package
before = set(sys.modules)
for name in names:
    importlib.import_module("sse_batching." + name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_the_pure_floor_loads_without_an_event_loop() -> None:
    """Importing the pure modules brings in no event loop, no thread and no log by a back door."""
    command = [sys.executable, "-c", LOAD_WITHOUT_THE_REST, str(PACKAGE), *sorted(FLOORS[PURE])]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=50).stdout
    loaded = set(json.loads(output))

    assert {f"sse_batching.{name}" for name in FLOORS[PURE]} <= loaded
    assert not loaded & {"anyio", "asyncio", "logging", "socket", "threading", "trio", "uvloop"}


def test_the_package_loads_without_trio() -> None:
    """Who runs asyncio needs no trio: it is imported where it runs, and nowhere else."""
    code = "import sys; sys.modules['trio'] = None; import sse_batching, sse_batching.testing"

    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent, timeout=50)
