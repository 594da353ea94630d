"""What the package is to reach, and what was found.

    python -m benchmarks.targets            # from the results that are there
    python -m benchmarks.targets --write    # into docs/performance.md, too

Reads what `python -m benchmarks` and `python -m benchmarks.cancellation` have written; reading
`token.cancelled` is timed here and now.
"""

from __future__ import annotations

import argparse
import json
import re
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from sse_batching import CancellationToken

from .report import RESULTS
from .works import MIDDLEWARE

PAGE: Final = Path(__file__).parents[1] / "docs" / "performance.md"
PLACE: Final = re.compile(r"(<!-- targets -->\n).*?(<!-- end of targets -->)", re.DOTALL)


class Target(NamedTuple):
    """One figure, what it has to be and what it should be."""

    title: str
    unit: str
    must: float
    goal: float
    found: Callable[[Any, Any], tuple[float, float, float]]
    """The median, the least and the most, from the results of streams and of cancellation."""
    at_least: bool = False

    def row(self, streams: Any, cancellation: Any) -> str:
        median, least, most = self.found(streams, cancellation)
        sign = 1 if self.at_least else -1
        verdict = "no"
        if sign * median >= sign * self.must:
            verdict = "goal" if sign * median >= sign * self.goal else "yes"
        bound = "at least" if self.at_least else "at most"
        return (
            f"| {self.title} | {bound} {self.must:g}{self.unit} | {self.goal:g}{self.unit} "
            f"| {median:.2g}{self.unit} ({least:.2g} to {most:.2g}) | {verdict} |"
        )


def of_work(work: str, figure: str) -> Callable[[Any, Any], tuple[float, float, float]]:
    def found(streams: Any, cancellation: Any) -> tuple[float, float, float]:
        it = streams["summary"][work][MIDDLEWARE][figure]
        return it["median"], it["least"], it["most"]

    return found


def of_cancellation(streams: Any, cancellation: Any) -> tuple[float, float, float]:
    it = cancellation["summary"]["callback"]["p99"]
    return it["median"], it["least"], it["most"]


def reading_a_token(streams: Any, cancellation: Any) -> tuple[float, float, float]:
    token, number = CancellationToken(), 200_000
    timer = timeit.Timer("token.cancelled", globals={"token": token})
    taken = sorted(took / number * 1e9 for took in timer.repeat(9, number))
    return taken[4], taken[0], taken[-1]


TARGETS: Final = [
    Target(
        "50 streams flat out: delivery, of bare", "", 0.1, 0.05, of_work("flat", "delivery_ratio")
    ),
    Target("100 streams of 100 events/s", "", 0.40, 0.28, of_work("100x100", "delivery_ratio")),
    Target("500 streams of 50 events/s", "", 0.60, 0.45, of_work("500x50", "delivery_ratio")),
    Target(
        "requests that do not stream, of the requests/s",
        *("", 0.97, 0.99, of_work("requests", "rate_ratio")),
        at_least=True,
    ),
    Target("first chunk: added delay", " ms", 0.3, 0.1, of_work("first", "first_ms_added")),
    Target(
        "delay of 500 streams of 50 events/s: 99th percentile",
        *(" ms", 60, 53, of_work("500x50", "delay_p99_ms")),
    ),
    Target("client gone to token cancelled: 99th percentile", " ms", 50, 10, of_cancellation),
    Target(
        "memory for an open stream, over bare",
        *(" KiB", 8, 4, of_work("memory", "memory_kib_added")),
    ),
    Target("`token.cancelled`", " ns", 50, 25, reading_a_token),
]


def table() -> str:
    streams, cancellation = (
        json.loads((RESULTS / name).read_text()) for name in ("latest.json", "cancellation.json")
    )
    rows = [target.row(streams, cancellation) for target in TARGETS]
    head = "| | must be | goal | found | met |\n| --- | --: | --: | --: | --- |"
    return "\n".join([head, *rows, ""])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true")
    found = table()
    print(found)
    if parser.parse_args().write:
        page = PLACE.sub(lambda place: f"{place[1]}\n{found}\n{place[2]}", PAGE.read_text())
        PAGE.write_text(page)


if __name__ == "__main__":
    main()
