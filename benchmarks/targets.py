"""Compare what the benchmarks have found with what the package has to reach.

    python -m benchmarks.targets            # print the table
    python -m benchmarks.targets --write    # into docs/performance.md, too

The figures come from the results of the other benchmarks. Only `token.cancelled` is timed here.
"""

from __future__ import annotations

import argparse
import json
import timeit
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, cast

from sse_batching import CancellationToken

from .report import PERFORMANCE, RESULTS, Spread, insert, spread
from .workloads import MIDDLEWARE

Results = Mapping[str, Any]
"""Results of the benchmarks, by name of their file."""

FILES: Final = ("latest", "cancellation", "requests", "merging")


class Target(NamedTuple):
    """Figure, with the most that it may be, and the goal."""

    title: str
    unit: str
    must: float
    goal: float
    found: Callable[[Results], Spread]
    """Returns the figure from the results. Raises `KeyError` if the figure was not measured."""

    def row(self, results: Results) -> str:
        must, goal = f"{self.must:g}{self.unit}", f"{self.goal:g}{self.unit}"
        try:
            found = self.found(results)
        except KeyError:
            return f"| {self.title} | {must} | {goal} | not measured | |"
        median, least, most = (f"{found[name]:.2g}" for name in ("median", "least", "most"))
        value = f"{median}{self.unit}"
        if least != most:
            value += f" ({least} to {most})"
        return f"| {self.title} | {must} | {goal} | {value} | {self.verdict(found)} |"

    def verdict(self, found: Spread) -> str:
        if found["median"] <= self.goal:
            return "goal"
        return "yes" if found["median"] <= self.must else "no"


def of_workload(workload: str, figure: str) -> Callable[[Results], Spread]:
    def found(results: Results) -> Spread:
        return cast("Spread", results["latest"]["summary"][workload][MIDDLEWARE][figure])

    return found


def of_a_request(results: Results) -> Spread:
    """Return the share of what `CORSMiddleware` adds, which is the same in every run."""
    share = results["requests"]["counts"]["GET"]["ours"]["of_cors"]
    return {"median": share, "least": share, "most": share}


def of_cancellation(results: Results) -> Spread:
    return cast("Spread", results["cancellation"]["summary"]["callback"]["p99"])


def of_merging(results: Results) -> Spread:
    """Return the time of the slowest format in place of the median."""
    times = [
        kind["delta_us"] for kind in results["merging"]["kinds"].values() if "delta_us" in kind
    ]
    return {"median": max(times), "least": min(times), "most": max(times)}


def of_a_token(results: Results) -> Spread:
    token, number = CancellationToken(), 200_000
    timer = timeit.Timer("token.cancelled", globals={"token": token})
    return spread([took / number * 1e9 for took in timer.repeat(9, number)])


TARGETS: Final = [
    Target(
        "50 streams flat out: delivery, of *bare*",
        "",
        0.20,
        0.10,
        of_workload("flat", "delivery_ratio"),
    ),
    Target(
        "100 streams of 100 events/s: delivery, of *simplest*",
        "",
        1.20,
        1.0,
        of_workload("100x100", "simplest_ratio"),
    ),
    Target(
        "500 streams of 50 events/s: delivery, of *simplest*",
        "",
        1.15,
        1.0,
        of_workload("500x50", "simplest_ratio"),
    ),
    Target(
        "a request that does not stream: instructions added, of what `CORSMiddleware` adds",
        "",
        0.40,
        0.25,
        of_a_request,
    ),
    Target("first chunk: added delay", " ms", 0.3, 0.1, of_workload("first", "first_ms_added")),
    Target(
        "first text, 5 ms behind a chunk without text: delay, of *bare*",
        "",
        2.0,
        1.5,
        of_workload("first-text", "text_ratio"),
    ),
    Target(
        "500 streams of 50 events/s, `max_delay` 50 ms: delay, 99th percentile",
        " ms",
        60,
        53,
        of_workload("500x50", "delay_p99_ms"),
    ),
    Target(
        "client gone to token cancelled, 1,000 streams: 99th percentile",
        " ms",
        50,
        10,
        of_cancellation,
    ),
    Target(
        "memory for an open stream, over *bare*",
        " KiB",
        8,
        4,
        of_workload("memory", "memory_kib_added"),
    ),
    Target("`token.cancelled`", " ns", 50, 25, of_a_token),
    Target("merging: one more delta, of the slowest format", " µs", 3, 1.5, of_merging),
]


def written() -> dict[str, Any]:
    """Return the results that have been written."""
    paths = {name: RESULTS / f"{name}.json" for name in FILES}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def table() -> str:
    results = written()
    rows = [target.row(results) for target in TARGETS]
    head = "| | at most | goal | found | met |\n| --- | --: | --: | --: | --- |"
    return "\n".join([head, *rows, ""])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.targets",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--write", action="store_true", help="into docs/performance.md, too")
    options = parser.parse_args()
    found = table()
    print(found)
    if options.write:
        insert(PERFORMANCE, "targets", found)


if __name__ == "__main__":
    main()
