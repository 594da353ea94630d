"""Run the soak from the command line.

    python -m tests.soak --streams 20000 --seed 1

Print the findings, and exit with 1 if a rule was broken.
"""

from __future__ import annotations

import argparse
import random
import sys

from tests.soak.findings import table
from tests.soak.run import soak
from tests.soak.servers import SERVERS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--streams", type=int, default=20_000)
    parser.add_argument(
        "--at-once", type=int, default=400, help="number of streams that are open at the same time"
    )
    parser.add_argument("--seed", type=int, default=None, help="default: a random seed")
    parser.add_argument("--server", choices=SERVERS, default="uvicorn-uvloop")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    print(f"seed {seed}, {options.server}", flush=True)
    found = soak(options.server, seed=seed, streams=options.streams, at_once=options.at_once)
    print(table(found))
    for fault in found.faults[:20]:
        print("WRONG:", fault)
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
