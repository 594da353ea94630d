"""Try many seeds in several processes, and explain one."""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Final, NamedTuple

from tests.fuzz.draw import draw
from tests.fuzz.oracle import judge, kind
from tests.fuzz.plan import Plan
from tests.fuzz.run import quiet, run
from tests.fuzz.shrink import shrink

BLOCK: Final = 50
"""Seeds that a process tries before it tells what it has found."""


class Found(NamedTuple):
    """A fault, and the run that showed it."""

    loop: str
    seed: int
    fault: str


def search(seeds: Iterator[int], loops: tuple[str, ...], jobs: int) -> Iterator[list[Found]]:
    """Try each seed on each loop. Yield what each block of `BLOCK` runs has found."""
    blocks = _blocks(seeds, loops)
    waiting: set[Future[list[Found]]] = set()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        while True:
            while len(waiting) < 2 * jobs and (block := next(blocks, None)) is not None:
                waiting.add(pool.submit(try_seeds, *block))
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def seeds_until(first: int, count: int | None, minutes: float | None) -> Iterator[int]:
    """Yield seeds, until there are enough or the time is over."""
    until = None if minutes is None else time.monotonic() + 60 * minutes
    seed = first
    while (count is None or seed < first + count) and (until is None or time.monotonic() < until):
        yield seed
        seed += 1


def _blocks(seeds: Iterator[int], loops: tuple[str, ...]) -> Iterator[tuple[str, list[int]]]:
    while True:
        block = [seed for _, seed in zip(range(BLOCK), seeds, strict=False)]
        if not block:
            return
        for loop in loops:
            yield loop, block


def try_seeds(loop: str, seeds: list[int]) -> list[Found]:
    """Run each seed, and return the faults."""
    prepare()
    found = []
    for seed in seeds:
        plan = draw(seed, loop)
        found += [Found(loop, seed, fault) for fault in judge(plan, run(plan))]
    return found


def prepare() -> None:
    """Make the garbage collection at the end of each run quick: it looks at new objects only."""
    quiet()
    gc.collect()
    gc.freeze()


def explain(seed: int, loop: str, wanted: str = "") -> int:
    """Print the simplest plan with the fault of a seed, and what happens in it."""
    prepare()
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
