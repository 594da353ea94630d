"""Write what was measured, as JSON and as tables."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple, TypedDict

import sse_batching

from .apps import OPTIONAL, RIVALS
from .run import Round
from .workloads import WORKLOADS, Effort

RESULTS: Final = Path(__file__).parent / "results"
PERFORMANCE: Final = Path(__file__).parents[1] / "docs" / "performance.md"

PACKAGES: Final = (
    "anyio",
    "fastapi",
    "httptools",
    "sse-starlette",
    "starlette",
    "uvicorn",
    "uvloop",
)


class Spread(TypedDict):
    """The median of the rounds, the least and the most."""

    median: float
    least: float
    most: float


class Column(NamedTuple):
    """Column of the table, and the meaning of its figure."""

    title: str
    digits: int
    meaning: str


COLUMNS: Final = {
    "cpu_us": Column(
        "CPU µs", 2, "CPU time of the server process, user and system, for one event or request"
    ),
    "delivery_us": Column(
        "delivery µs", 2, "*CPU µs*, less that of *production* in the same round"
    ),
    "delivery_ratio": Column("of bare", 3, "delivery, divided by that of *bare*"),
    "simplest_ratio": Column("of simplest", 3, "delivery, divided by that of *simplest*"),
    "rate_ratio": Column(
        "of the requests/s",
        3,
        "requests in a second of CPU time, divided by those of the app without middleware",
    ),
    "writes": Column("writes", 3, "HTTP chunks that the client received, for one event"),
    "write_calls": Column(
        "syscalls", 3, "system calls that write, made by the server for one event"
    ),
    "reads": Column("reads", 3, "reads that the client made for one event"),
    "bytes": Column("bytes", 0, "bytes on the wire for one event"),
    "first_ms": Column(
        "first ms", 2, "from the production of a stream's first event until it is read; median"
    ),
    "first_p99_ms": Column("first p99 ms", 2, "*first ms*, 99th percentile"),
    "answer_ms": Column("answer ms", 2, "from the request until the first event is read; median"),
    "text_ms": Column(
        "first text ms",
        2,
        "from the request until the second event is read, produced 5 ms after the first; median",
    ),
    "text_ratio": Column("of bare", 2, "*first text ms*, divided by that of *bare*"),
    "first_ms_added": Column("first, added", 3, "*first ms*, less that of *bare*"),
    "answer_ms_added": Column("answer, added", 3, "*answer ms*, less that of *bare*"),
    "delay_p50_ms": Column(
        "delay ms", 1, "from the production of an event until the client has read it; median"
    ),
    "delay_p99_ms": Column("delay p99", 1, "*delay ms*, 99th percentile"),
    "delay_max_ms": Column("delay max", 1, "*delay ms*, the longest"),
    "stall_p99_ms": Column(
        "stall p99 ms",
        1,
        "how late the server's event loop was for a timer every 10 ms; 99th percentile",
    ),
    "stall_max_ms": Column("stall max", 1, "the longest such delay of the event loop"),
    "busy": Column(
        "busy", 2, "share of its core that the server used; near 1, the server cannot keep up"
    ),
    "memory_kib": Column("KiB", 2, "resident memory of the server for each open stream"),
    "memory_kib_added": Column("added KiB", 2, "*KiB*, less that of *bare*"),
}
"""Columns in the order of the table. Two figures are only in the JSON, for checks: `events` is the
number of events, and `client_busy` the share of its own core that the client used."""


def results(rounds: Sequence[Round], effort: Effort) -> dict[str, Any]:
    """Return what goes into the JSON file."""
    return {
        **about(),
        "effort": effort._asdict(),
        "summary": summary(rounds),
        "rounds": [
            {
                workload: {
                    name: {figure: significant(value) for figure, value in figures.items()}
                    for name, figures in measured.items()
                }
                for workload, measured in each.items()
            }
            for each in rounds
        ],
    }


def about() -> dict[str, Any]:
    """Return the date, the machine and the versions of the packages."""
    return {
        "when": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    ours = {"Python": platform.python_version(), "sse_batching": sse_batching.__version__}
    return ours | {package: version(package) for package in PACKAGES}


def machine() -> dict[str, Any]:
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        names = [value.strip() for key, _, value in lines if key.strip() == "model name"]
        model = names[0] if names else model
    return {
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "architecture": platform.machine(),
        "processor": model,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def summary(rounds: Sequence[Round]) -> dict[str, Any]:
    """Return the spread of each figure over the rounds."""
    return {
        workload: {
            rival: {
                name: spread(
                    [
                        each[workload][rival][name]
                        for each in rounds
                        if name in each[workload][rival]
                    ]
                )
                for name in rounds[0][workload][rival]
            }
            for rival in rounds[0][workload]
        }
        for workload in rounds[0]
    }


def spread(values: Sequence[float]) -> Spread:
    return {
        "median": significant(statistics.median(values)),
        "least": significant(min(values)),
        "most": significant(max(values)),
    }


def significant(value: float) -> float:
    return float(f"{value:.6g}")


def write_json(path: Path, results: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def place(name: str) -> re.Pattern[str]:
    """Return a pattern that finds the place of a table on a page, between two comments."""
    return re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)


def insert(page: Path, name: str, table: str) -> None:
    """Write a table into its place on a page."""
    text = page.read_text()
    if not place(name).search(text):
        sys.exit(f"{page.name} has no place for a table: <!-- {name} --> to <!-- end of {name} -->")
    page.write_text(place(name).sub(lambda found: f"{found[1]}\n{table}\n{found[2]}", text))


# The table.


def markdown(results: Mapping[str, Any]) -> str:
    """Return a table for each workload, and the meaning of its columns."""
    packages = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    made = results["machine"]
    rounds = len(results["rounds"])
    used = {
        name
        for measured in results["summary"].values()
        for figures in measured.values()
        for name in figures
    }
    return "\n".join(
        [
            f"Measured on {results['when']}: {made['processor']}, {made['cores']} cores, "
            f"{made['system']}; {packages}. "
            + (f"Medians of {rounds} rounds (least to most)." if rounds > 1 else "One round."),
            "",
            *(line for workload, it in results["summary"].items() for line in table(workload, it)),
            "The rivals:",
            "",
            *(f"- *{name}*: {text}." for name, text in (RIVALS | OPTIONAL).items()),
            "",
            "The figures:",
            "",
            *(
                f"- *{column.title}*: {column.meaning}."
                for name, column in COLUMNS.items()
                if name in used
            ),
            "",
        ]
    )


def table(workload: str, measured: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    names = [name for name in COLUMNS if any(name in figures for figures in measured.values())]
    head = ["", *(COLUMNS[name].title for name in names)]
    order = [rival for rival in (*RIVALS, *OPTIONAL) if rival in measured]
    rows = [[rival, *(cell(measured[rival], name) for name in names)] for rival in order]
    lines = [head, ["---", *["--:"] * len(names)], *rows]
    return [
        f"**{WORKLOADS[workload].title}**",
        "",
        *(f"| {' | '.join(line)} |" for line in lines),
        "",
    ]


WITH_SPREAD: Final = {"cpu_us", "delivery_ratio", "simplest_ratio", "rate_ratio", "text_ratio"}


def cell(figures: Mapping[str, Mapping[str, float]], name: str) -> str:
    if name not in figures:
        return ""
    digits = COLUMNS[name].digits
    value = figures[name]
    text = f"{value['median']:.{digits}f}"
    if name in WITH_SPREAD and value["least"] != value["most"]:
        text += f" ({value['least']:.{digits}f} to {value['most']:.{digits}f})"
    return text
