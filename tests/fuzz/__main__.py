"""Search for faults with random requests.

    python -m tests.fuzz --minutes 5
    python -m tests.fuzz --seed 1234

Print each kind of fault with the seed that showed it first, and exit with 1 if there is one. With
`--seed`, print what happened in that run, after making the plan as simple as possible.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from typing import Final

from tests.fuzz.oracle import kind
from tests.fuzz.search import BLOCK, explain, search, seeds_until

LOOPS: Final = ("asyncio", "trio")


def main() -> int:
    options = _arguments()
    loops = LOOPS if options.loop == "both" else (options.loop,)
    if options.seed is not None:
        return max(explain(options.seed, loop, options.kind) for loop in loops)
    return report(options, loops)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=None, help="how many seeds to try")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--minutes", type=float, default=None, help="how long to try seeds")
    parser.add_argument("--loop", choices=(*LOOPS, "both"), default="both")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--seed", type=int, default=None, help="run this seed, and explain it")
    parser.add_argument("--kind", default="", help="with --seed: the kind of fault to explain")
    parser.add_argument(
        "--all", action="store_true", help="print each fault, not the first of a kind"
    )
    return parser.parse_args()


def report(options: argparse.Namespace, loops: tuple[str, ...]) -> int:
    """Try many seeds, and print the kinds of faults."""
    count = 5000 if options.seeds is None and options.minutes is None else options.seeds
    seeds = seeds_until(options.first, count, options.minutes)
    began = time.monotonic()
    counts: Counter[str] = Counter()
    blocks = 0
    for block in search(seeds, loops, options.jobs):
        blocks += 1
        for found in block:
            counts[kind(found.fault)] += 1
            if options.all or counts[kind(found.fault)] == 1:
                print(f"make fuzz SEED={found.seed} LOOP={found.loop}  # {found.fault}", flush=True)
    minutes = (time.monotonic() - began) / 60
    print(f"about {blocks * BLOCK} runs in {minutes:.1f} minutes, {counts.total()} faults")
    for name, number in counts.most_common():
        print(f"  {number:5} {name}")
    return 1 if counts else 0


if __name__ == "__main__":
    sys.exit(main())
