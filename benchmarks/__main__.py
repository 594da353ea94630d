"""Measure CPU time, writes, delays and memory of servers, with this package and with its rivals.

    python -m benchmarks            # nine rounds, about half an hour
    python -m benchmarks --quick    # one short round, about a minute

On a machine with two cores, the servers run on the first and the client on the second.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import uvloop

from . import plots, report
from .apps import OPTIONAL, RIVALS
from .run import run
from .workloads import FULL, QUICK, WORKLOADS


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, help="number of rounds; 9")
    parser.add_argument(
        "--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="WORKLOAD"
    )
    parser.add_argument(
        "--rivals",
        nargs="+",
        choices=[*RIVALS, *OPTIONAL],
        help="in place of the rivals of each workload",
    )
    parser.add_argument("--output", type=Path, default=report.RESULTS, help="folder of the results")
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 9)
    effort = QUICK if options.quick else FULL
    measured = uvloop.run(run(options.workloads, options.rivals, rounds, effort))
    results = report.results(measured, effort)
    options.output.mkdir(parents=True, exist_ok=True)
    report.write_json(options.output / "latest.json", results)
    table = report.markdown(results)
    (options.output / "latest.md").write_text(table)
    plots.draw(results, options.output)
    print(table)


if __name__ == "__main__":
    main()
