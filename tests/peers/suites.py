"""Run the test suites of other packages without the middleware and with it, and compare.

    python -m tests.peers.suites

The middleware is put around every app that a test client of the suite is given. A test that passes
without the middleware has to pass with it.

Each suite comes from the source distribution on PyPI of the installed version, and is kept in the
virtual environment. The suite tests the installed package.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

from tests.peers import wrap_every_app
from tests.peers.wrap_every_app import RUN, Outcome, Result, Run, Wrap

CACHE: Final = Path(sys.prefix, "peers")
PATIENCE: Final = 300.0
"""Seconds after which a run of a suite is stopped."""

TEST_PATIENCE: Final = 30
"""Seconds after which a test of a suite fails."""

AT_ONCE: Final = 2
"""The number of concurrent runs: one for each of two cores."""

PLAIN: Final = "without the middleware"
DEFAULTS: Final = "with default options"
ONE_BY_ONE: Final = "every response taken over, its chunks delivered one by one"
BATCHED: Final = "every response batched"
BATCHED_AT_ONCE: Final = "every response batched without delay, every request watched"

RUNS: Final[Mapping[str, Wrap | None]] = {
    PLAIN: None,
    DEFAULTS: Wrap(),
    ONE_BY_ONE: Wrap(every_response=True, gather=False, ask=True, options={"grace_period": 0}),
    BATCHED: Wrap(every_response=True),
    BATCHED_AT_ONCE: Wrap(
        every_response=True, ask=True, options={"max_delay": 0, "grace_period": 0}
    ),
}


class Peer(NamedTuple):
    """A package whose suite is run."""

    name: str
    loops: tuple[str, ...]
    """The event loops that the package's test clients run apps on."""
    may_fail: Mapping[str, Mapping[str, str]]
    """The tests that may fail in each run, and why such a failure is no fault."""


RACE: Final = (
    "the test client looks for a debug message in the same loop iteration as the start of the "
    "response; Starlette's own templates send that message before the start"
)
TAKEN_OVER: Final = {
    "test_debug_info_in_response_extensions": RACE,
    "test_debug_info_in_response_extensions_with_template": RACE,
}
GATHERED: Final = {
    **TAKEN_OVER,
    "test_streaming_response_applies_backpressure": "each chunk has to wait for the previous one",
    "test_streaming_response_copies_mutable_chunks": "expects one read to be one chunk",
    "test_streaming_response_skips_empty_and_head_bodies": "expects empty chunks to be written",
}

PEERS: Final = (
    Peer(
        "starlette",
        loops=("asyncio", "trio"),
        may_fail={
            PLAIN: {
                "test_staticfiles_with_invalid_dir_permissions_returns_401": "root reads anything",
            },
            ONE_BY_ONE: TAKEN_OVER,
            BATCHED: GATHERED,
            BATCHED_AT_ONCE: GATHERED,
        },
    ),
)
"""The packages whose suites are run.

Not among them are sse-starlette, whose source distribution has only some of the tests, and FastAPI,
whose suite needs some thirty more packages and takes three times as long.
"""


def fetch(peer: Peer) -> Path:
    """Return the directory of the peer's suite, without its copy of the package.

    So the suite imports the installed package.
    """
    release = f"{peer.name}=={version(peer.name)}"
    home = CACHE / release
    if not home.exists():
        new = CACHE / "new"
        shutil.rmtree(new, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        one = ["--no-deps", "--no-binary", ":all:", "--dest", str(new), release]
        subprocess.run([*pip, "download", *one], check=True)
        [archive] = new.glob("*.tar.gz")
        with tarfile.open(archive) as content:
            content.extractall(new / "unpacked", filter="data")
        [root] = (new / "unpacked").iterdir()
        shutil.rmtree(root / peer.name.replace("-", "_"))
        root.rename(home)
    return home


def run(suite: Path, title: str) -> Result:
    """Run a suite. The output of pytest is kept beside the suite."""
    files = suite.parent / f"{suite.name}, {title}"
    result, log = (files.with_name(f"{files.name}.{ending}") for ending in ("json", "log"))
    result.unlink(missing_ok=True)
    home_of_plugin = str(Path(wrap_every_app.__file__).parent)
    names = ("no:cacheprovider", "anyio", "pytest_timeout", "wrap_every_app")
    plugins = [part for name in names for part in ("-p", name)]
    what = json.dumps(dataclasses.asdict(Run(str(result), RUNS[title])))
    with log.open("w", encoding="utf-8") as output:
        subprocess.run(
            [sys.executable, "-m", "pytest", f"--timeout={TEST_PATIENCE}", *plugins],
            cwd=suite,
            env={
                **os.environ,
                "PYTHONPATH": home_of_plugin,
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                RUN: what,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,  # the result says more than the exit code
        )
    if not result.exists():
        raise SystemExit(f"{suite.name}, {title}: the run did not finish, see {log}")
    return Result.read(result)


def differences(plain: Mapping[str, Outcome], wrapped: Mapping[str, Outcome]) -> dict[str, str]:
    """Return the tests whose outcome differs with the middleware, and both outcomes.

    A test that fails without the middleware may have any outcome with it, but has to be run.
    """
    found = {}
    for test in sorted(plain.keys() | wrapped.keys()):
        before, after = plain.get(test, "not run"), wrapped.get(test, "not run")
        if before != after and (before != "failed" or after == "not run"):
            found[test] = f"{before} without the middleware, {after} with it"
    return found


def faults(peer: Peer, title: str, plain: Result, result: Result) -> Iterator[str]:
    """Describe each fault of a run: a difference, or a reason why the run proves nothing."""
    excused = peer.may_fail.get(title, {})
    wrap = RUNS[title]
    if "passed" not in result.outcomes.values():
        yield "no test has passed"
    if wrap is None:
        wrong = {test: "failed" for test, outcome in result.outcomes.items() if outcome == "failed"}
    else:
        wrong = differences(plain.outcomes, result.outcomes)
        batched = "responses in fewer writes" if wrap.gather else "responses taken over"
        for proof in ("apps", batched, *(f"requests on {loop}" for loop in peer.loops)):
            if not result.counts[proof]:
                yield f"no {proof}"
    for test, what in wrong.items():
        if name_of(test) not in excused or result.outcomes.get(test) != "failed":
            yield f"{test}: {what}\n{result.failures.get(test, '')}"
    for name in excused.keys() - {name_of(test) for test in result.outcomes}:
        yield f"{name} may fail, but there is no such test"


def name_of(test: str) -> str:
    """Return the name of the test's function."""
    return test.partition("[")[0].rpartition("::")[2]


def summary(result: Result) -> str:
    outcomes = Counter[str](result.outcomes.values())
    counts = [*outcomes.most_common(), *sorted(result.counts.items())]
    return ", ".join(f"{count} {what}" for what, count in counts)


def check(peer: Peer, results: Mapping[str, Result]) -> bool:
    """Print the results of all runs of a suite. Return True if none of them has a fault."""
    good = True
    excuses: dict[str, str] = {}
    for title, result in results.items():
        print(f"{peer.name} {version(peer.name)}, {title}: {summary(result)}")
        failed = {name_of(test) for test in result.failures}
        known = peer.may_fail.get(title, {})
        excuses.update({name: reason for name, reason in known.items() if name in failed})
        for fault in faults(peer, title, results[PLAIN], result):
            print(f"FAULT: {fault}")
            good = False
    for name, reason in excuses.items():
        print(f"  {name} may fail: {reason}")
    return good


def main() -> int:
    began = time.monotonic()
    suites = [fetch(peer) for peer in PEERS]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        under_way = [{title: pool.submit(run, suite, title) for title in RUNS} for suite in suites]
        results = [{title: one.result() for title, one in runs.items()} for runs in under_way]
    good = [check(peer, runs) for peer, runs in zip(PEERS, results, strict=True)]
    print(f"{time.monotonic() - began:.0f} s")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
