"""Helpers for tests of single rules: make events, and see what a `Merger` makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sse_batching import formats
from sse_batching._merging import Format, Merger


def compact(value: Any) -> str:
    """Return JSON as servers write it: without spaces, and with characters that are not escaped."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def sse(data: Mapping[str, Any] | str, *before: str, end: str = "\n") -> bytes:
    """Return an event with its data, and with lines `before` the data. A string is not encoded."""
    text = data if isinstance(data, str) else compact(data)
    return "".join(f"{line}{end}" for line in [*before, f"data: {text}", ""]).encode()


def typed(data: Mapping[str, Any]) -> bytes:
    """Return an event whose name is the type of its data."""
    return sse(data, f"event: {data['type']}")


def line(data: Mapping[str, Any]) -> bytes:
    """Return a line of newline-delimited JSON."""
    return compact(data).encode() + b"\n"


CHAT_OPENER: Final = sse({"object": "chat.completion.chunk", "choices": []})

OPENERS: Final = {
    "openai_chat": CHAT_OPENER,
    "openai_chat_repeated_role": CHAT_OPENER,
    "openai_completions": sse({"object": "text_completion", "choices": []}),
    "openai_responses": typed({"type": "response.created"}),
    "anthropic_messages": typed({"type": "message_start"}),
    "ag_ui": sse({"type": "RUN_STARTED"}),
    "vercel_ui": sse({"type": "start"}),
    "gemini": sse({"candidates": []}),
    "cohere_chat": typed({"type": "message-start"}),
    "ollama": line({"model": "m", "created_at": "t", "done": False}),
}
"""For each format, an event that shows the format and is no delta."""


def split_before_last_line_end(event: bytes) -> tuple[bytes, bytes]:
    """Return an event without its last line end, and the line end."""
    size = 2 if event.endswith(b"\r\n") else 1
    return event[:-size], event[-size:]


def feed(merger: Merger, chunks: Iterable[bytes]) -> bytes:
    """Return the batch that the merger makes of these chunks."""
    for chunk in chunks:
        merger.add(chunk)
    return merger.take()


def merged(format: Format, *events: bytes, opener: bytes | None = None, **options: Any) -> bytes:
    """Return what becomes of these events in one batch, after an opener of their format.

    The result has to be the same for each way to cut the events into chunks: one event a chunk; all
    events in one chunk; the first event, by which the template is known, and then all others in one
    chunk; each event in two halves; and each event cut before its last line end.
    """
    opener = opener or OPENERS.get(format.name, b"data: opener\n\n")
    cuttings = [
        events,
        [b"".join(events)],
        [events[0], b"".join(events[1:])],
        [part for event in events for part in (event[: len(event) // 2], event[len(event) // 2 :])],
        [part for event in events for part in split_before_last_line_end(event)],
    ]
    found = []
    for chunks in cuttings:
        merger = Merger([format], lines=format is formats.ollama, **options)
        assert feed(merger, [opener]) == opener
        found.append(feed(merger, chunks))
        assert merger.held == 0
    assert found[1:] == found[:-1], "the result depends on how the events are cut into chunks"
    return found[0]


def is_unchanged(format: Format, *events: bytes, **options: Any) -> bool:
    """Return True if none of these events is merged."""
    return merged(format, *events, **options) == b"".join(events)
