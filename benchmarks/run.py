"""Run the rounds. Each has all workloads and rivals, so that the noise hits all rivals alike."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from .apps import OPTIONAL, RIVALS
from .server import Server, pin, raise_descriptor_limit, serving
from .workloads import PRODUCTION, SIMPLEST, WORKLOADS, Effort, Figures, Measured

Round = dict[str, Measured]
"""Figures by workload and rival."""


async def run(
    workloads: Sequence[str], rivals: Sequence[str] | None, rounds: int, effort: Effort
) -> list[Round]:
    """Measure all rounds. `rivals` replaces the rivals of each workload."""
    raise_descriptor_limit()
    pin(1)
    measured = []
    for number in range(rounds):
        with ExitStack() as stack:
            names = {name for workload in workloads for name in rivals_of(workload, rivals)}
            servers = {
                name: stack.enter_context(serving(name))
                for name in (*RIVALS, *OPTIONAL)
                if name in names
            }
            measured.append(await one_round(workloads, rivals, servers, effort, number))
    return measured


def rivals_of(workload: str, chosen: Sequence[str] | None) -> Sequence[str]:
    if chosen is None:
        return WORKLOADS[workload].rivals
    produces = PRODUCTION in WORKLOADS[workload].rivals
    return [name for name in chosen if produces or name != PRODUCTION]


async def one_round(
    workloads: Sequence[str],
    rivals: Sequence[str] | None,
    servers: Mapping[str, Server],
    effort: Effort,
    number: int,
) -> Round:
    """Measure one round. Every other round has the rivals in reverse order."""
    done: Round = {}
    for workload in workloads:
        names = [*rivals_of(workload, rivals)][:: -1 if number % 2 else 1]
        chosen = {name: servers[name] for name in names}
        print(f"round {number + 1}: {WORKLOADS[workload].title}", flush=True)
        gc.collect()
        gc.disable()  # a collection in the client would delay its reads
        try:
            done[workload] = await WORKLOADS[workload].measure(chosen, effort)
        finally:
            gc.enable()
        compare(done[workload], WORKLOADS[workload].base)
    return done


def compare(measured: Measured, base: str) -> None:
    """Add the figures that are relative to other rivals of the same round."""
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
