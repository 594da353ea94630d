"""Search for faults with random requests.

    python -m tests.fuzz --minutes 5
    python -m tests.fuzz --seed 1234

Print each kind of fault with the seed that showed it first, and exit with 1 if there is one. With
`--seed`, print what happened in that run, after making the plan as simple as possible.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from tests.fuzz.draw import draw
from tests.fuzz.oracle import judge, kind
from tests.fuzz.plan import Plan
from tests.fuzz.run import quiet, run
from tests.fuzz.shrink import shrink

LOOPS: Final = ("asyncio", "trio")
BLOCK: Final = 50
"""Seeds that a process tries before it tells what it has found."""


class Found(NamedTuple):
    """A fault, and the run that showed it."""

    loop: str
    seed: int
    fault: str


def main() -> int:
    options = _arguments()
    loops = LOOPS if options.loop == "both" else (options.loop,)
    if options.seed is not None:
        return max(explain(options.seed, loop, options.kind) for loop in loops)
    return search(options, loops)


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
    parser.add_argument("--all", action="store_true", help="print each fault, not the first of a kind")
    return parser.parse_args()


def search(options: argparse.Namespace, loops: tuple[str, ...]) -> int:
    """Try many seeds, and print the kinds of faults."""
    began = time.monotonic()
    seeds = 5000 if options.seeds is None and options.minutes is None else options.seeds
    until = began + 60 * options.minutes if options.minutes is not None else None
    counts: Counter[str] = Counter()
    tried = 0
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for block in pool.imap(_block, _blocks(options.first, seeds, loops, until)):
            tried += BLOCK
            for found in block:
                counts[kind(found.fault)] += 1
                if options.all or counts[kind(found.fault)] == 1:
                    print(f"make fuzz SEED={found.seed} LOOP={found.loop}  # {found.fault}", flush=True)
    minutes = (time.monotonic() - began) / 60
    print(f"{tried} runs in {minutes:.1f} minutes, {sum(counts.values())} faults")
    for name, count in counts.most_common():
        print(f"  {count:5} {name}")
    return 1 if counts else 0


def _blocks(
    first: int, seeds: int | None, loops: tuple[str, ...], until: float | None
) -> Iterator[tuple[str, int, int]]:
    """Yield the loop, the first seed and the number of seeds of each block.

    The generator is asked for all blocks at once, so it waits where it would run ahead.
    """
    seed = first
    while (seeds is None or seed < first + seeds) and (until is None or time.monotonic() < until):
        count = BLOCK if seeds is None else min(BLOCK, first + seeds - seed)
        for loop in loops:
            yield loop, seed, count
        seed += count


def _block(job: tuple[str, int, int]) -> list[Found]:
    loop, first, count = job
    _prepare()
    found = []
    for seed in range(first, first + count):
        plan = draw(seed, loop)
        found += [Found(loop, seed, fault) for fault in judge(plan, run(plan))]
    return found


def _prepare() -> None:
    """Make the garbage collection at the end of each run quick: it looks at new objects only."""
    quiet()
    gc.collect()
    gc.freeze()


def explain(seed: int, loop: str, wanted: str = "") -> int:
    """Print the simplest plan with the fault of a seed, and what happens in it."""
    _prepare()
    plan = draw(seed, loop)
    faults = judge(plan, run(plan))
    print(f"seed {seed} on {loop}: {len(faults)} faults")
    for fault in faults:
        print(f"  {fault}")
    kinds = [kind(fault) for fault in faults if kind(fault).startswith(wanted)]
    if not kinds:
        return 0

    def fails(simpler: Plan) -> bool:
        return kinds[0] in map(kind, judge(simpler, run(simpler)))

    plan = shrink(plan, fails)
    history = run(plan)
    print(f"\nThe simplest plan with a fault of the kind {kinds[0]!r}:\n\n{plan!r}\n")
    print("\n".join(history.trace))
    print(*judge(plan, history), sep="\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
