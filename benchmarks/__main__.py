"""Server CPU, writes, delays and memory: this package and what one would use in its place.

    python -m benchmarks            # nine rounds, about half an hour
    python -m benchmarks --quick    # one short round, about a minute

The servers have one core to themselves and the client another, where there are two.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import uvloop

from . import plots, report
from .apps import OPTIONAL, RIVALS
from .run import run
from .works import FULL, QUICK, WORKS


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, help="how many; 9")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS), metavar="WORK")
    parser.add_argument(
        "--rivals", nargs="+", choices=[*RIVALS, *OPTIONAL], help="in place of those of each work"
    )
    parser.add_argument("--output", type=Path, default=report.RESULTS, help="a folder")
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 9)
    effort = QUICK if options.quick else FULL
    measured = uvloop.run(run(options.works, options.rivals, rounds, effort))
    results = report.results(measured, effort)
    options.output.mkdir(parents=True, exist_ok=True)
    report.write_json(options.output / "latest.json", results)
    table = report.markdown(results)
    (options.output / "latest.md").write_text(table)
    plots.draw(results, options.output)
    print(table)


if __name__ == "__main__":
    main()
