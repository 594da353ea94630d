"""Measure what merging saves in recorded streams, and what it costs.

    python -m benchmarks.merging            # into benchmarks/results
    python -m benchmarks.merging --write    # into docs/merging.md, too

The streams are in ../shared/streams beside the repository, or in the folder that the environment
variable `SSE_BATCHING_STREAMS` names. Their timing was not recorded. Here, 80 events arrive in a
second of a simulated clock, and a batch is taken when the middleware would take it.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from sse_batching import formats
from sse_batching._buffer import Buffer
from sse_batching._merging import Format, Merger
from sse_batching._sse import EventSplitter, LineSplitter, Splitter, read_event, read_line

from .report import RESULTS, about, insert, significant, write_json
from .workloads import BARE

ROOT: Final = Path(__file__).parents[1]
STREAMS: Final = Path(os.environ.get("SSE_BATCHING_STREAMS", ROOT.parent / "shared" / "streams"))
FOUND: Final = RESULTS / "merging.json"
PAGE: Final = ROOT / "docs" / "merging.md"

RATE: Final = 80
"""Events a second."""
MAX_DELAY: Final = 0.05
MAX_BATCH_BYTES: Final = 65_536
MAX_DELAY_IN_EVENTS: Final = round(MAX_DELAY * RATE)
"""The simulated clock counts events, so that no time is rounded: the first event arrives at 0, the
second at 1."""

BEST_OF: Final = 9
LONG_RUN: Final = 20
"""Length of a run of deltas that is long enough to show what one more delta costs."""


class Kind(NamedTuple):
    """Kind of streams, which is a row of the table."""

    title: str
    format: str
    """Name of the format in the index of the streams."""
    notes: str = ""
    """Text that the notes in the index must contain."""
    formats: tuple[Format, ...] = formats.auto


KINDS: Final = (
    Kind("OpenAI Chat Completions", "openai-chat"),
    Kind(
        "the same, with `openai_chat_repeated_role`",
        "openai-chat",
        formats=(formats.openai_chat_repeated_role,),
    ),
    Kind("Chat Completions of Mistral", "mistral"),
    Kind("OpenAI Responses", "openai-responses"),
    Kind("Anthropic Messages", "anthropic-messages"),
    Kind("AG-UI", "ag-ui"),
    Kind("Vercel AI SDK, UI messages", "vercel-ui"),
    Kind("Google Gemini", "gemini"),
    Kind("Cohere", "cohere"),
    Kind("Ollama", "ndjson", "kind:ollama"),
)


# The streams.


class Recording(NamedTuple):
    """Stream, as the chunks that an app would send."""

    chunks: list[bytes]
    lines: bool
    """True if the stream consists of lines, and not of events."""

    def merger(self, formats: tuple[Format, ...]) -> Merger:
        return Merger(formats, max_batch_bytes=MAX_BATCH_BYTES, lines=self.lines)

    def events(self, content: bytes) -> int:
        """Return the number of events in these bytes."""
        read = read_line if self.lines else read_event
        return sum(read(block) is not None for block in blocks(content, self.lines))


def blocks(content: bytes, lines: bool) -> list[bytes]:
    splitter: Splitter = LineSplitter() if lines else EventSplitter()
    found = splitter.feed(content)
    rest = splitter.release()
    return [*found, rest] if rest else found


def recordings(kind: Kind) -> list[Recording]:
    with (STREAMS / "INDEX.tsv").open(newline="") as index:
        rows = [*csv.DictReader(index, delimiter="\t", quoting=csv.QUOTE_NONE)]
    files = [
        STREAMS / row["file"]
        for row in rows
        if row["format"] == kind.format and kind.notes in row["notes"]
    ]
    found = []
    for file in files:
        lines = file.suffix == ".ndjson"
        found.append(Recording(blocks(file.read_bytes(), lines), lines))
    return found


# What merging saves.


def writes(chunks: Sequence[bytes], merger: Merger | None) -> Iterator[bytes]:
    """Yield the writes that the middleware would make."""
    buffer = Buffer(MAX_DELAY_IN_EVENTS, MAX_BATCH_BYTES, merger)

    def take(now: float) -> bytes:
        taken = buffer.take(now)
        buffer.sent()
        return taken

    for now, chunk in enumerate(chunks):
        if buffer.deadline <= now:
            yield take(buffer.deadline)
        buffer.add(chunk, now)
        if buffer.deadline <= now:
            yield take(now)
    if buffer.waiting:
        yield take(len(chunks))


def saved(kind: Kind, streams: Sequence[Recording]) -> dict[str, Any]:
    """Return the events, bytes and writes: each without merging, and with it."""
    found: dict[str, Any] = {name: [0, 0] for name in ("events", "bytes", "writes")}
    for stream in streams:
        for way, merger in enumerate((None, stream.merger(kind.formats))):
            written = [*writes(stream.chunks, merger)]
            content = b"".join(written)
            found["events"][way] += stream.events(content)
            found["bytes"][way] += len(content)
            found["writes"][way] += len(written)
    return {"streams": len(streams), **found}


# What merging costs.


def longest_run(stream: Recording, formats: tuple[Format, ...]) -> range:
    """Return the longest run of chunks in which each two neighbours merge into one event."""
    longest = run = range(1, 1)
    for at in range(1, len(stream.chunks)):
        joined = len(run) > 0 and are_merged(stream, at - 1, formats)
        run = range(run.start if joined else at, at + 1)
        longest = max(longest, run, key=len)
    return longest


def are_merged(stream: Recording, at: int, formats: tuple[Format, ...]) -> bool:
    """Return True if a chunk merges with the next chunk, in a stream that has begun."""
    chunks = [stream.chunks[0], *stream.chunks[at : at + 2]]
    merger = stream.merger(formats)
    for chunk in chunks:
        merger.add(chunk)
    return stream.events(merger.take()) < stream.events(b"".join(chunks))


def seconds(stream: Recording, first: int, end: int, formats: tuple[Format, ...]) -> float:
    """Return the seconds of CPU for some chunks of a stream: the fastest of several runs.

    The chunks before `first` are added before the clock starts.
    """
    batches = [
        stream.chunks[at : min(at + MAX_DELAY_IN_EVENTS, end)]
        for at in range(first, end, MAX_DELAY_IN_EVENTS)
    ]
    found = []
    for _ in range(BEST_OF):
        merger = stream.merger(formats) if formats else None
        buffer = Buffer(MAX_DELAY_IN_EVENTS, MAX_BATCH_BYTES, merger)
        buffer.set_fast_path(is_open=True)
        add_nowait, take, sent = buffer.add_nowait, buffer.take, buffer.sent
        for chunk in stream.chunks[:first]:
            buffer.add(chunk, 0)
        take(0)
        sent()
        began = time.process_time()
        for batch in batches:
            for chunk in batch:
                if not add_nowait(chunk, 0):  # a batch that is too large for the fast path
                    buffer.add(chunk, 0)
            take(0)
            sent()
        found.append(time.process_time() - began)
    return min(found)


def cost(kind: Kind, streams: Sequence[Recording]) -> dict[str, float]:
    """Return the microseconds of an event without merging, with it, and of one more delta."""
    whole = [(stream, 0, len(stream.chunks)) for stream in streams]
    runs = [(stream, longest_run(stream, kind.formats)) for stream in streams]
    long = [(stream, run.start + 1, run.stop) for stream, run in runs if len(run) > LONG_RUN]
    found = {}
    for name, parts, chosen in (
        ("batched_us", whole, ()),
        ("merged_us", whole, kind.formats),
        ("delta_us", long, kind.formats),
    ):
        chunks = sum(end - first for _, first, end in parts)
        if chunks:
            took = sum(seconds(*part, chosen) for part in parts)
            found[name] = significant(took / chunks * 1e6)
    return found


def write_cost() -> dict[str, Any]:
    """Return what an event costs in a write of its own, from the last `python -m benchmarks`."""
    latest = json.loads((RESULTS / "latest.json").read_text())
    return {
        "when": latest["when"],
        "us": latest["summary"]["flat"][BARE]["delivery_us"]["median"],
    }


def measure() -> dict[str, Any]:
    gc.disable()  # a collection would be measured with whatever runs at the time
    found: dict[str, Any] = {}
    for kind in KINDS:
        if streams := recordings(kind):
            found[kind.title] = saved(kind, streams) | cost(kind, streams)
    return {**about(), "rate": RATE, "max_delay": MAX_DELAY, "write": write_cost(), "kinds": found}


# The tables.


def rows(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def change(before: int, after: int) -> str:
    share = f"{after / before - 1:+.0%}".replace("-", "\N{MINUS SIGN}")
    return f"{before:,} → {after:,} ({share})"


def table(results: Mapping[str, Any]) -> str:
    """Return the table of what merging saves."""
    body = [
        [title, str(it["streams"]), change(*it["events"]), change(*it["bytes"])]
        for title, it in results["kinds"].items()
    ]
    return rows(("", "streams", "events", "bytes"), body)


def cost_table(results: Mapping[str, Any]) -> str:
    names = ("batched_us", "merged_us", "delta_us")
    body = [
        [
            title,
            *(f"{it[name]:.2f}" if name in it else "" for name in names),
            change(*it["writes"]),
        ]
        for title, it in results["kinds"].items()
    ]
    return rows(("CPU µs an event", "batched", "merged", "one more delta", "writes"), body)


def markdown(results: Mapping[str, Any]) -> str:
    """Return both tables, and the meaning of their columns."""
    packages = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    made, write = results["machine"], results["write"]
    return f"""\
Measured on {results["when"]}: {made["processor"]}, {made["cores"]} cores, {made["system"]}; \
{packages}. `python -m benchmarks.merging`.

Recorded streams, {results["rate"]} events a second, `max_delay` {results["max_delay"]:g} s. \
Before and after merging; both are batched. The bytes are those of the bodies.

{table(results)}
In process, without a server; the fastest of {BEST_OF} runs, with a batch every \
{MAX_DELAY_IN_EVENTS} events:

{cost_table(results)}
- *batched*: an event goes into the buffer and out again, without merging.
- *merged*: the same with merging, in whole streams. This includes learning each kind of delta, \
and events that are not merged.
- *one more delta*: the same with merging, in runs of more than {LONG_RUN} deltas of one kind, \
without the first delta of a run.
- *writes*: without merging, and with it. With merging, an event that is not a delta goes out \
immediately.

For comparison: sending an event in a write of its own takes {write["us"]:.2f} µs (delivery of \
*bare*, flat out; [latest.md](latest.md) of {write["when"]}). Batching alone saves that, too.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.merging",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--write", action="store_true", help="into docs/merging.md, too")
    options = parser.parse_args()
    if not (STREAMS / "INDEX.tsv").exists():
        sys.exit(f"there are no recorded streams in {STREAMS}: see SSE_BATCHING_STREAMS")
    results = measure()
    RESULTS.mkdir(exist_ok=True)
    write_json(FOUND, results)
    (RESULTS / "merging.md").write_text(markdown(results))
    print(markdown(results))
    if options.write:
        insert(PAGE, "merging", table(results))


if __name__ == "__main__":
    main()
