"""Draw the plots as SVG that is readable on light and on dark pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .apps import RIVALS
from .workloads import MIDDLEWARE, PRODUCTION, WORKLOADS

INK: Final = "#80868d"
"""Grey with enough contrast on white and on black."""

COLOURS: Final = {
    "production": "#80868d",
    "bare": "#3f86d6",
    "by-hand": "#a46fd1",
    "sse-starlette": "#c9872b",
    "fastapi": "#d0588a",
    "middleware": "#2f9e62",
}

STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "benchmarks",  # the same figures make the same file
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans", "sans-serif"],
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "savefig.transparent": True,
}


@contextmanager
def drawing(path: Path, columns: int, size: tuple[float, float]) -> Iterator[list[Axes]]:
    """Make a figure with that number of plots side by side, and write it at the end."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, columns, figsize=size, squeeze=False)
        yield list(axes[0])
        figure.tight_layout()
        save(figure, path)


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def draw(results: Mapping[str, Any], folder: Path, suffix: str = ".svg") -> None:
    """Draw the plots of the rounds."""
    summary = results["summary"]
    cost = [
        workload for workload in ("flat", "100x100", "500x50", "1000x20") if workload in summary
    ]
    delayed = [workload for workload in cost if workload != "flat"]
    if any("delivery_us" in figures for workload in cost for figures in summary[workload].values()):
        bars(summary, cost, "delivery_us", folder / f"cost{suffix}", "delivery: µs CPU an event")
    if delayed:
        delays(summary, delayed, folder / f"delay{suffix}")


def bars(
    summary: Mapping[str, Any], workloads: Sequence[str], figure: str, path: Path, label: str
) -> None:
    """Draw one figure of all rivals, by workload: the median, and a line from least to most."""
    names = [name for name in RIVALS if name != PRODUCTION]
    with drawing(path, len(workloads), (2.6 * len(workloads) + 0.9, 2.5)) as axes:
        for axis, workload in zip(axes, workloads, strict=True):
            present = [
                name for name in reversed(names) if figure in summary[workload].get(name, {})
            ]
            values = [summary[workload][name][figure] for name in present]
            medians = [value["median"] for value in values]
            below = [value["median"] - value["least"] for value in values]
            above = [value["most"] - value["median"] for value in values]
            axis.barh(
                present,
                medians,
                xerr=[below, above],
                color=[COLOURS[name] for name in present],
                error_kw={"ecolor": INK, "elinewidth": 1},
            )
            for row, (name, value) in enumerate(zip(present, values, strict=True)):
                weight = "bold" if name == MIDDLEWARE else "normal"
                axis.annotate(
                    f"{value['median']:.2g}" if value["median"] < 10 else f"{value['median']:.0f}",
                    (value["most"], row),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    weight=weight,
                )
            axis.set_title(WORKLOADS[workload].title)
            axis.set_xlim(0, 1.18 * max(value["most"] for value in values))
            axis.set_xlabel(label)
            axis.tick_params(axis="y", length=0)
            if axis is not axes[0]:
                axis.set_yticklabels([])


def delays(summary: Mapping[str, Any], workloads: Sequence[str], path: Path) -> None:
    """Draw the delays by workload and rival, from the median to the 99th percentile."""
    names = [name for name in reversed(RIVALS) if name != PRODUCTION]
    with drawing(path, len(workloads), (2.6 * len(workloads) + 0.9, 2.5)) as axes:
        for axis, workload in zip(axes, workloads, strict=True):
            present = [name for name in names if "delay_p50_ms" in summary[workload].get(name, {})]
            for row, name in enumerate(present):
                figures = summary[workload][name]
                p50 = figures["delay_p50_ms"]["median"]
                p99 = figures["delay_p99_ms"]["median"]
                axis.plot([p50, p99], [row, row], color=COLOURS[name], linewidth=5, alpha=0.5)
                axis.plot([p50], [row], "o", color=COLOURS[name])
                axis.plot([p99], [row], "|", color=COLOURS[name], markersize=12, markeredgewidth=2)
            axis.set_xscale("log")
            axis.grid(axis="x")
            axis.set_yticks(range(len(present)), present if axis is axes[0] else [])
            axis.set_ylim(-0.6, len(present) - 0.4)
            axis.tick_params(axis="y", length=0)
            axis.set_title(WORKLOADS[workload].title)
            axis.set_xlabel("delay in ms, p50 to p99")
            axis.xaxis.set_major_formatter("{x:g}")
