"""Measure what an event costs with more streams and with more events, and what idle streams cost.

python -m benchmarks.scaling            # three rounds, about a quarter of an hour
python -m benchmarks.scaling --quick    # one short round
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import uvloop
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter

from . import report
from .client import all_ended, all_started, get, get_stats, request, streaming
from .meter import Stats
from .plots import COLOURS, drawing
from .server import Server, pin, raise_descriptor_limit, serving
from .workloads import BARE, MIDDLEWARE, PRODUCTION, WARM_UP

RIVALS: Final = (PRODUCTION, BARE, MIDDLEWARE)

FLAT_EVENTS: Final = 400
"""Events of each stream that runs flat out. The end of the stream is part of their cost."""

SLOW: Final = 4.0
"""Events a second on each stream, where the number of streams varies."""


class Effort(NamedTuple):
    """How long, and with how many streams, everything is measured."""

    seconds: float
    streams: Sequence[int]
    rates: Sequence[float]
    idle_streams: int


FULL: Final = Effort(
    2.0, (1, 10, 50, 100, 500, 1000, 2000, 5000), (1, 2, 5, 10, 20, 50, 100, 200, 500), 10_000
)
QUICK: Final = Effort(0.5, (1, 50, 500, 5000), (2, 20, 200), 2000)

Points = dict[str, float]
"""Microseconds of CPU for an event, by number of streams or by rate."""


def used(before: Stats, after: Stats) -> int:
    return after["cpu_ns"] - before["cpu_ns"]


async def flat(server: Server, streams: int) -> float:
    """Return the microseconds of an event. The streams begin together, once all are open.

    The cost of reading the statistics is subtracted.
    """
    requests = [request("/stream", count=FLAT_EVENTS, phase=0.001)] * streams
    async with streaming(server.port, requests, keep=False) as opened:
        await all_started(opened)
        look, before = await get_stats(server.port), await get_stats(server.port)
        await get(server.port, "/go")
        await all_ended(opened)
        after = await get_stats(server.port)
    produced = after["produced"] - before["produced"]
    return (used(before, after) - 2 * used(look, before)) / produced / 1000


async def paced(server: Server, streams: int, rate: float, seconds: float) -> float:
    """Return the microseconds of an event. The cost of the same streams when idle is subtracted."""
    settling = 1 / rate + WARM_UP
    count = int((settling + seconds + 0.3) * rate) + 1
    requests = [
        request("/stream", count=count, rate=rate, phase=(number + 1) / streams / rate)
        for number in range(streams)
    ]
    async with streaming(server.port, requests, keep=False) as opened:
        await all_started(opened)
        idle = await figures_around(server, seconds)
        await get(server.port, "/go")
        await asyncio.sleep(settling)
        busy = await figures_around(server, seconds)
        await all_ended(opened)
    produced = busy[1]["produced"] - busy[0]["produced"]
    return (used(*busy) - used(*idle)) / max(1, produced) / 1000


async def figures_around(server: Server, seconds: float) -> tuple[Stats, Stats]:
    """Return the figures before these seconds, and after them."""
    before = await get_stats(server.port)
    await asyncio.sleep(seconds)
    return before, await get_stats(server.port)


async def idle(name: str, streams: int, seconds: float) -> dict[str, float]:
    """Return the CPU and memory of streams that have sent an event and wait, on a new server."""
    with serving(name) as server:
        requests = [request("/stream", count=2, rate=0.001)] * streams
        async with streaming(server.port, requests[:1], keep=False) as one:
            await all_started(one)
            alone = await figures_around(server, seconds)
            async with streaming(server.port, requests, keep=False) as opened:
                await all_started(opened)
                await asyncio.sleep(1.0)
                full = await figures_around(server, seconds)
    grown = full[1]["rss"] - alone[1]["rss"]
    return {
        "streams": streams,
        "cpu_percent": (used(*full) - used(*alone)) / seconds / 1e7,
        "memory_mib": grown / 1024**2,
        "memory_kib_each": grown / streams / 1024,
    }


async def one_round(effort: Effort) -> dict[str, Any]:
    done: dict[str, Any] = {"flat": {}, "slow": {}, "rates": {}, "idle": {}}
    for name in RIVALS:
        print(name, flush=True)
        with serving(name) as server:
            await flat(server, 50)  # warm up
            done["flat"][name] = {str(n): await flat(server, n) for n in effort.streams}
            done["slow"][name] = {
                str(n): await paced(server, n, SLOW, effort.seconds) for n in effort.streams
            }
            done["rates"][name] = {
                f"{rate:g}": await paced(server, 100, rate, effort.seconds) for rate in effort.rates
            }
        if name != PRODUCTION:
            done["idle"][name] = await idle(name, effort.idle_streams, 2 * effort.seconds)
    return done


def summary(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the spread of each figure over the rounds."""
    return {
        part: {
            name: {
                point: report.spread([each[part][name][point] for each in rounds])
                for point in rounds[0][part][name]
            }
            for name in rounds[0][part]
        }
        for part in rounds[0]
    }


TITLES: Final = {
    "slow": ("streams", f"{SLOW:g} events/s on each stream"),
    "flat": ("streams", "streams flat out"),
    "rates": ("events/s on each", "100 streams"),
}


def markdown(found: Mapping[str, Any]) -> str:
    lines = []
    for part, (unit, title) in TITLES.items():
        points = list(found[part][BARE])
        lines += [f"**{title}**: µs CPU an event", "", f"| {unit} | {' | '.join(points)} |"]
        lines.append(f"| --- |{' --: |' * len(points)}")
        for name in RIVALS:
            cells = [f"{found[part][name][point]['median']:.2f}" for point in points]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    lines += ["**open and idle**", "", "| | streams | % CPU | MiB | KiB each |"]
    lines.append("| --- | --: | --: | --: | --: |")
    for name, figures in found["idle"].items():
        median = {key: value["median"] for key, value in figures.items()}
        lines.append(
            f"| {name} | {median['streams']:.0f} | {median['cpu_percent']:.2f} "
            f"| {median['memory_mib']:.0f} | {median['memory_kib_each']:.1f} |"
        )
    return "\n".join([*lines, ""])


def draw(found: Mapping[str, Any], path: Path) -> None:
    with drawing(path, len(TITLES), (9.5, 3.0)) as axes:
        for axis, (part, (unit, title)) in zip(axes, TITLES.items(), strict=True):
            lines(axis, found[part])
            axis.set_title(title)
            axis.set_xlabel(unit)
        axes[0].set_ylabel("µs CPU an event")
        axes[0].legend()


def lines(axis: Axes, found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Draw a line for each rival, and an area from the least to the most of the rounds."""
    for name, points in found.items():
        where = [float(point) for point in points]
        medians = [value["median"] for value in points.values()]
        least = [value["least"] for value in points.values()]
        most = [value["most"] for value in points.values()]
        axis.plot(where, medians, "o-", color=COLOURS[name], label=name, markersize=4)
        axis.fill_between(where, least, most, color=COLOURS[name], alpha=0.2, linewidth=0)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axis.grid()


async def run(rounds: int, effort: Effort) -> list[dict[str, Any]]:
    limit = raise_descriptor_limit()
    pin(1)
    most = max(*effort.streams, effort.idle_streams)
    if limit < most + 100:
        raise RuntimeError(f"{most} streams need more open files than {limit} (ulimit -n)")
    return [await one_round(effort) for _ in range(rounds)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, help="number of rounds; 3")
    parser.add_argument("--output", type=Path, default=report.RESULTS, help="folder of the results")
    options = parser.parse_args()
    effort = QUICK if options.quick else FULL
    rounds = uvloop.run(run(options.rounds or (1 if options.quick else 3), effort))
    found = summary(rounds)
    options.output.mkdir(parents=True, exist_ok=True)
    report.write_json(options.output / "scaling.json", {**report.about(), "summary": found})
    table = markdown(found)
    (options.output / "scaling.md").write_text(table)
    draw(found, options.output / "scaling.svg")
    print(table)


if __name__ == "__main__":
    main()
