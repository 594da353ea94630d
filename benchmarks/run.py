"""Rounds: every work with every rival, again and again, so that all see the same machine."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from .apps import OPTIONAL, RIVALS
from .server import Server, pin, raise_descriptor_limit, serving
from .works import PRODUCTION, SIMPLEST, WORKS, Effort, Figures, Measured

Round = dict[str, Measured]
"""The figures by work and rival."""


async def run(
    works: Sequence[str], rivals: Sequence[str] | None, rounds: int, effort: Effort
) -> list[Round]:
    """Measure. `rivals`: those of each work, if it is not said."""
    raise_descriptor_limit()
    pin(1)
    measured = []
    for number in range(rounds):
        with ExitStack() as stack:
            names = {name for work in works for name in rivals_of(work, rivals)}
            servers = {
                name: stack.enter_context(serving(name))
                for name in (*RIVALS, *OPTIONAL)
                if name in names
            }
            measured.append(await one_round(works, rivals, servers, effort, number))
    return measured


def rivals_of(work: str, chosen: Sequence[str] | None) -> Sequence[str]:
    if chosen is None:
        return WORKS[work].rivals
    produces = PRODUCTION in WORKS[work].rivals
    return [name for name in chosen if produces or name != PRODUCTION]


async def one_round(
    works: Sequence[str],
    rivals: Sequence[str] | None,
    servers: Mapping[str, Server],
    effort: Effort,
    number: int,
) -> Round:
    """Every other round the rivals come in reverse, so that none is always the first."""
    done: Round = {}
    for work in works:
        names = [*rivals_of(work, rivals)][:: -1 if number % 2 else 1]
        chosen = {name: servers[name] for name in names}
        print(f"round {number + 1}: {WORKS[work].title}", flush=True)
        gc.collect()
        gc.disable()  # the client must not stop to look for garbage
        try:
            done[work] = await WORKS[work].measure(chosen, effort)
        finally:
            gc.enable()
        compare(done[work], WORKS[work].base)
    return done


def compare(measured: Measured, base: str) -> None:
    """Add what is relative to other rivals of the same round."""
    floor = measured.get(PRODUCTION, {}).get("cpu_us")
    for name, figures in measured.items():
        if floor is not None and name != PRODUCTION:
            figures["delivery_us"] = figures["cpu_us"] - floor
    for figures in measured.values():
        if base in measured:
            figures |= relative(figures, measured[base])
        if SIMPLEST in measured and "delivery_us" in figures:
            figures["simplest_ratio"] = figures["delivery_us"] / measured[SIMPLEST]["delivery_us"]


def relative(figures: Figures, base: Figures) -> Figures:
    found: Figures = {}
    if base.get("delivery_us", 0) > 0 and "delivery_us" in figures:
        found["delivery_ratio"] = figures["delivery_us"] / base["delivery_us"]
    if "cpu_us" in figures and "events" not in figures:
        found["rate_ratio"] = base["cpu_us"] / figures["cpu_us"]
    if "text_ms" in figures:
        found["text_ratio"] = figures["text_ms"] / base["text_ms"]
    for name in ("first_ms", "answer_ms", "memory_kib", "delay_p50_ms", "delay_p99_ms"):
        if name in figures and name in base:
            found[f"{name}_added"] = figures[name] - base[name]
    return found
