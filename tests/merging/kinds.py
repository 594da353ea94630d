"""For every format a delta event, whose text can be chosen, and an event that is no delta."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sse_batching import formats
from sse_batching._merging import Format, Merger
from tests.merging.merged import OPENERS, line, sse, typed


class Kind(NamedTuple):
    """A format with some of its events."""

    format: Format
    pattern: bytes
    """A delta event with `$TEXT` in place of its text."""
    other: bytes
    """An event that is no delta, as it may come between two deltas."""

    @property
    def name(self) -> str:
        return self.format.name

    @property
    def opener(self) -> bytes:
        """The first event of a stream, by which the format is known."""
        return OPENERS.get(self.name, b"data: opener\n\n")

    @property
    def lines(self) -> bool:
        return self.format is formats.ollama

    def delta(self, text: bytes) -> bytes:
        """Return a delta event. The text is the body of a JSON string, or plain text."""
        return self.pattern.replace(b"$TEXT", text)

    def merger(self, **options: Any) -> Merger:
        return Merger([self.format], lines=self.lines, **options)


def _chat(**beside: str) -> bytes:
    choice = {"index": 0, "delta": {**beside, "content": "$TEXT"}, "finish_reason": None}
    return sse({"object": "chat.completion.chunk", "created": 1, "choices": [choice]})


USAGE: Final = sse({"object": "chat.completion.chunk", "choices": [], "usage": {"total_tokens": 2}})
PING: Final = typed({"type": "ping"})


def _gemini(part: Mapping[str, Any]) -> bytes:
    return sse({"candidates": [{"content": {"parts": [part], "role": "model"}, "index": 0}]})


KINDS: Final = (
    Kind(formats.openai_chat, _chat(), USAGE),
    Kind(formats.openai_chat_repeated_role, _chat(role="assistant"), USAGE),
    Kind(
        formats.openai_completions,
        sse({"object": "text_completion", "choices": [{"text": "$TEXT", "index": 0}]}),
        sse({"object": "text_completion", "choices": []}),
    ),
    Kind(
        formats.openai_responses,
        typed({"type": "response.output_text.delta", "sequence_number": 7, "delta": "$TEXT"}),
        typed({"type": "response.in_progress", "sequence_number": 8}),
    ),
    Kind(
        formats.anthropic_messages,
        typed(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": "$TEXT"},
            }
        ),
        PING,
    ),
    Kind(
        formats.ag_ui,
        sse({"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "$TEXT"}),
        sse({"type": "RAW", "event": {"n": 1}}),
    ),
    Kind(
        formats.vercel_ui,
        sse({"type": "text-delta", "id": "1", "delta": "$TEXT"}),
        sse({"type": "data-progress", "data": 1}),
    ),
    Kind(formats.gemini, _gemini({"text": "$TEXT"}), _gemini({"functionCall": {"name": "f"}})),
    Kind(
        formats.cohere_chat,
        typed(
            {
                "type": "content-delta",
                "index": 0,
                "delta": {"message": {"content": {"text": "$TEXT"}}},
            }
        ),
        typed({"type": "citation-start", "index": 0}),
    ),
    Kind(
        formats.ollama,
        line({"model": "m", "created_at": "t", "response": "$TEXT", "done": False}),
        line({"status": "loading"}),
    ),
    Kind(
        formats.DeltaFormat(last=("n",), join=("list",)),
        sse({"delta": "$TEXT", "n": 1, "list": []}),
        sse({"n": 1}),
    ),
    Kind(formats.PlainText(), sse("$TEXT"), sse("[1]")),
)
