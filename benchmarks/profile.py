"""Measure where the time goes: in process, by function, and by library on the server.

    python -m benchmarks.profile            # into benchmarks/results/profile.md
    python -m benchmarks.profile --print    # print only, to compare with another version

The last part needs Linux's `perf`. Without it, a line in the output says that it is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import anyio
import uvloop

import sse_batching
from sse_batching import SSEBatchingMiddleware
from sse_batching._types import ASGIApp

from .guard import (
    CHUNKS,
    CHUNKS_PER_WRITE,
    REQUESTS,
    chat,
    chat_flat_out,
    hello,
    ignore,
    run,
    scope,
)
from .report import RESULTS
from .server import Server, raise_descriptor_limit, serving
from .workloads import BARE, FULL, MIDDLEWARE, PRODUCTION, paced

PACKAGE: Final = str(Path(sse_batching.__file__).parent)
BEST_OF: Final = 30
STREAMS, RATE = 100, 100.0
LIBRARIES: Final = {"Python": "libpython|python3", "uvloop": r"^loop\.", "kernel": "kernel"}


async def never() -> Any:
    await asyncio.sleep(1_000_000)


# In process, on a server that does nothing.


def fastest(app: ASGIApp, times: int, divisor: int) -> float:
    """Return the microseconds of CPU of the fastest of many runs."""

    async def measure() -> float:
        found = []
        for _ in range(BEST_OF):
            began = time.process_time()
            for _ in range(times):
                await app(scope(), never, ignore)
            found.append(time.process_time() - began)
        return min(found) / divisor * 1e6

    return uvloop.run(measure())


def in_process() -> Iterator[str]:
    yield "| µs in process | without | with |\n| --- | --: | --: |"
    for title, app, times, divisor in (
        ("chunk, flat out", chat_flat_out, 1, CHUNKS),
        ("request that does not stream", hello, REQUESTS, REQUESTS),
    ):
        without = fastest(app, times, divisor)
        with_it = fastest(SSEBatchingMiddleware(app), times, divisor)
        yield f"| {title} | {without:.2f} | {with_it:.2f} |"


# By function.


def by_function() -> Iterator[str]:
    counts: Counter[str] = Counter()

    def each(frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode":
            counts[frame.f_code.co_qualname] += 1
        return each

    def enter(frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE + os.sep + "_"):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return each

    sys.settrace(enter)
    try:
        run(SSEBatchingMiddleware(chat), 1)
    finally:
        sys.settrace(None)
    yield f"| bytecodes of ours for a chunk, {CHUNKS_PER_WRITE} a write | |\n| --- | --: |"
    named = [(name, count / CHUNKS) for name, count in counts.most_common(10)]
    for name, count in named:
        yield f"| `{name}` | {count:.0f} |"
    rest = counts.total() / CHUNKS - sum(count for _, count in named)
    yield f"| the rest | {rest:.0f} |"


# On the server.


def shares(report: str) -> dict[str, float]:
    """Return the share of each kind of library, from the output of `perf report`."""
    found = dict.fromkeys(LIBRARIES, 0.0)
    for percent, library in re.findall(r"^\s+([\d.]+)%\s+(\S+)", report, re.MULTILINE):
        for kind, pattern in LIBRARIES.items():
            if re.search(pattern, library.strip("[]")):
                found[kind] += float(percent) / 100
    return found


async def profiled(server: Server, folder: str) -> tuple[float, dict[str, float]]:
    """Return the microseconds of CPU for an event, and the share of each kind of library."""
    data = f"{folder}/{server.name}"
    command = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "4000", "-o", data]
    load = asyncio.create_task(paced(server, STREAMS, RATE, FULL._replace(seconds=8.0)))
    await asyncio.sleep(2.5)  # until all streams have begun
    record = await asyncio.create_subprocess_exec(
        *command, "-p", str(server.pid), "--", "sleep", "5"
    )
    figures = await load
    await record.wait()
    read = ["perf", "report", "-i", data, "--no-children", "--sort", "dso", "--stdio"]
    report = (await anyio.run_process(read)).stdout.decode()
    return figures["cpu_us"], shares(report)


def by_library() -> Iterator[str]:
    if shutil.which("perf") is None:
        yield "(No `perf` on this machine: not measured by library.)"
        return
    raise_descriptor_limit()
    yield f"| µs CPU an event, {STREAMS} streams of {RATE:g}/s | {' | '.join(LIBRARIES)} | in all |"
    yield f"| --- |{' --: |' * (len(LIBRARIES) + 1)}"
    with tempfile.TemporaryDirectory() as folder:
        for name in (PRODUCTION, BARE, MIDDLEWARE):
            with serving(name) as server:
                cpu, parts = uvloop.run(profiled(server, folder))
            columns = " | ".join(f"{cpu * share:.1f}" for share in parts.values())
            yield f"| {name} | {columns} | {cpu:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--print", action="store_true", help="do not write the results")
    options = parser.parse_args()
    parts = ["\n".join(part()) for part in (in_process, by_function, by_library)]
    page = "\n\n".join(parts) + "\n"
    print(page)
    if not options.print:
        (RESULTS / "profile.md").write_text(page)


if __name__ == "__main__":
    main()
