"""Count the instructions that a middleware adds to a request that does not stream.

    python -m benchmarks.instructions            # print the table: a minute
    python -m benchmarks.instructions --write    # into the results and docs/performance.md, too

`benchmarks.counted` has the app, a small one of Starlette's, and a server that does nothing.
Valgrind's callgrind counts the instructions of the process. The kernel's are not among them. The
counts are the same in every run, whatever else the machine does. With another folder or environment
they move by less than 1 %. Debian has valgrind as a package.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from .counted import REQUESTS, RIVALS
from .report import PERFORMANCE, RESULTS, about, insert, write_json

TIMEOUT: Final = 600.0
"""Seconds after which counting has failed."""

FOUND: Final = RESULTS / "requests.json"

Counts = dict[str, dict[str, dict[str, float]]]
"""By method and rival: `instructions` of a request, `added` by the middleware, and `of_cors`."""


def count() -> Counts:
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "valgrind",
            "--quiet",
            "--tool=callgrind",
            f"--callgrind-out-file={folder}/%p",
            sys.executable,
            "-m",
            "benchmarks.counted",
        ]
        output = subprocess.run(
            command,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            timeout=TIMEOUT,
        ).stdout
        return {
            method: compared({rival: per_request(folder, pids) for rival, pids in by_rival.items()})
            for method, by_rival in json.loads(output).items()
        }


def per_request(folder: str, pids: tuple[int, int]) -> float:
    """Return the instructions of one request, from the two counts of a rival."""
    some, twice = (total((Path(folder) / str(pid)).read_text()) for pid in pids)
    return (twice - some) / REQUESTS


def total(profile: str) -> int:
    """Return the instructions of a whole process, from what callgrind has written."""
    found = re.search(r"^totals: (\d+)", profile, re.MULTILINE)
    if found is None:
        raise RuntimeError("callgrind has written no totals")
    return int(found[1])


def compared(instructions: Mapping[str, float]) -> dict[str, dict[str, float]]:
    added = {rival: count - instructions["none"] for rival, count in instructions.items()}
    return {
        rival: {
            "instructions": round(count),
            "added": round(added[rival]),
            "of_cors": round(added[rival] / added["cors"], 4),
        }
        for rival, count in instructions.items()
    }


def measure() -> dict[str, Any]:
    found = about()
    shown = subprocess.run(["valgrind", "--version"], check=True, capture_output=True, text=True)
    found["versions"] |= {
        "asgi-correlation-id": version("asgi-correlation-id"),
        "valgrind": shown.stdout.strip().removeprefix("valgrind-"),
    }
    return {**found, "requests": REQUESTS, "counts": count()}


# The table.

TITLES: Final = {"GET": "a request", "POST": "a POST with a small JSON body, which the app reads"}


def table(results: Mapping[str, Any]) -> str:
    """Return the tables, one for each method."""
    return "\n".join(
        "".join(
            [
                f"| {TITLES[method]} | instructions | added | of `CORSMiddleware`'s |\n",
                "| --- | --: | --: | --: |\n",
                *(row(rival, figures) for rival, figures in counts.items()),
            ]
        )
        for method, counts in results["counts"].items()
    )


def row(rival: str, figures: Mapping[str, float]) -> str:
    cells = [RIVALS[rival].title, f"{figures['instructions']:,}"]
    if rival == "none":
        cells += ["", ""]
    else:
        cells += [f"{figures['added']:,}", f"{figures['of_cors'] * 100:,.0f} %"]
    if rival == "ours":
        cells = [f"**{cell}**" for cell in cells]
    return f"| {' | '.join(cells)} |\n"


def markdown(results: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    return f"""\
Counted on {results["when"]}: {results["machine"]["architecture"]}, \
{results["machine"]["system"]}; {packages}. `python -m benchmarks.instructions`.

{table(results)}
Counted in {results["requests"]} requests and in twice as many: the difference is divided by \
{results["requests"]}. The kernel's instructions are not counted.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.instructions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--write", action="store_true", help="into benchmarks/results and docs/performance.md, too"
    )
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("instructions of a request: not counted, because valgrind is not installed")
        return
    results = measure()
    print(markdown(results))
    if options.write:
        write_json(FOUND, results)
        FOUND.with_suffix(".md").write_text(markdown(results))
        insert(PERFORMANCE, "requests", table(results))


if __name__ == "__main__":
    main()
