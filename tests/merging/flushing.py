"""Feed a `Merger` with random chunks and flushes. Find fixtures and recorded streams."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

from sse_batching import formats
from sse_batching._merging import Format, Merger

EVENT_END: Final = re.compile(rb"(?<=\n\n)|(?<=\r\n\r\n)")
LINE_END: Final = re.compile(rb"(?<=\n)")

FIXTURES: Final = Path(__file__).with_name("fixtures")
RECORDED: Final = Path(
    os.environ.get("SSE_BATCHING_STREAMS")
    or Path(__file__).resolve().parents[3] / "shared" / "streams"
)

CLIENTS: Final = {
    "ag_ui": "ag-ui",
    "anthropic": "anthropic-messages",
    "cohere": "cohere",
    "gemini": "gemini",
    "mistral": "mistral",
    "ollama": "ollama",
    "openai_chat_mistral": "mistral",
    "openai_chat": "openai-chat",
    "openai_responses": "openai-responses",
    "vercel_ui": "vercel-ui",
}
"""The clients' names of formats, by the beginning of a fixture's name. The first match counts."""

FOLDERS: Final = {"ollama": ("ndjson", "*llama*"), "cohere-v1": ("ndjson", "*cohere*")}
"""Folder and pattern of recorded streams that are not in a folder with the format's name."""

REPEATED_ROLE: Final = {"openai_chat_ollama", "openai_chat_openrouter"}
"""Fixtures with a role in every chunk, which only `openai_chat_repeated_role` merges."""


def client_of(fixture: Path) -> str | None:
    """Return the name of the client that reads this fixture, or None if there is no such client."""
    return next((client for name, client in CLIENTS.items() if fixture.stem.startswith(name)), None)


def flushed(merger: Merger, chunks: Iterable[tuple[bytes, bool]]) -> bytes:
    """Return what a merger makes of these chunks.

    Each chunk says whether a flush follows it. A flush also follows what must not wait.
    """
    batches = []
    for chunk, flush in chunks:
        urgent = merger.add(chunk)
        if urgent or flush:
            batches.append(merger.take())
    merger.release()
    return b"".join((*batches, merger.take()))


def merged_each_way(
    body: bytes, *, lines: bool, seed: str, known: Collection[Format] = formats.auto
) -> Iterator[bytes]:
    """Yield the merged body: fed in whole events, four a batch; cut anywhere; and in one chunk."""
    luck = random.Random(seed)
    events = [event for event in (LINE_END if lines else EVENT_END).split(body) if event]
    yield flushed(
        Merger(known, lines=lines),
        ((event, number % 4 == 3) for number, event in enumerate(events)),
    )
    pieces, start = [], 0
    while start < len(body):
        size = 1 + int(luck.expovariate(1 / 60))
        pieces.append((body[start : start + size], luck.random() < 0.05))
        start += size
    yield flushed(Merger(known, lines=lines), pieces)
    yield flushed(Merger(known, lines=lines), [(body, False)])


def fixtures(*names: str) -> list[object]:
    """Return the fixtures of these formats, by the clients' names."""
    return [
        pytest.param(client_of(path), path, id=path.stem)
        for path in sorted(FIXTURES.iterdir())
        if path.suffix in {".sse", ".ndjson"} and client_of(path) in names
    ]


def recorded(*names: str) -> list[object]:
    """Return the recorded streams of these formats, or one skipped test if there are none."""
    places = [(name, *FOLDERS.get(name, (name, "*.*"))) for name in names]
    found = [
        pytest.param(name, path, id=path.name)
        for name, folder, pattern in places
        for path in sorted((RECORDED / folder).glob(pattern))
    ]
    if found:
        return list(found)
    reason = f"there are no recorded streams in {RECORDED}: set SSE_BATCHING_STREAMS"
    return [pytest.param("", Path(), id="none", marks=pytest.mark.skip(reason=reason))]
