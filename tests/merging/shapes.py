"""The shape of each format: where the objects of its official Python client have their text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from tests.merging.joined import Event, Path, Shape


def filled(fields: Event) -> set[str]:
    """Return the names of the fields that are not empty."""
    return {name for name, value in fields.items() if value not in (None, "", [], {}, False)}


# OpenAI Chat Completions, as many servers send them.

CHAT_DELTA: Final[Path] = ("choices", 0, "delta")
CHAT_TEXTS: Final[list[Path]] = [
    (*CHAT_DELTA, "content"),
    (*CHAT_DELTA, "refusal"),
    (*CHAT_DELTA, "reasoning"),
    (*CHAT_DELTA, "reasoning_content"),
    (*CHAT_DELTA, "tool_calls", 0, "function", "arguments"),
    (*CHAT_DELTA, "function_call", "arguments"),
    (*CHAT_DELTA, "content", 0, "text"),
    (*CHAT_DELTA, "content", 0, "thinking", 0, "text"),
]
CHAT_LISTS: Final[list[Path]] = [
    ("choices", 0, "logprobs", "content"),
    ("choices", 0, "logprobs", "refusal"),
    ("choices", 0, "token_ids"),
]


def is_chat_delta(chunk: Event) -> bool:
    """Return False for a finish, usage, an error, and the start of a message or of a call."""
    choices = chunk.get("choices") or []
    if len(choices) != 1 or filled(chunk) & {"usage", "x_groq", "error", "moderation"}:
        return False
    if filled(choices[0]) & {"finish_reason", "native_finish_reason", "text"}:
        return False
    delta: Event = choices[0].get("delta") or {}
    if filled(delta) & {"annotations", "audio", "reasoning_details", "token_id"}:
        return False
    calls = delta.get("tool_calls") or []
    functions = [call.get("function") or {} for call in calls] + [delta.get("function_call") or {}]
    opens_call = any(filled(part) & {"id", "name"} for part in [*calls, *functions])
    return not opens_call and filled(delta) != {"role"}


CHAT: Final = Shape(CHAT_TEXTS, is_chat_delta, CHAT_LISTS, [("created",), ("obfuscation",)])


def within(name: str, paths: Iterable[Path]) -> list[Path]:
    return [(name, *path) for path in paths]


MISTRAL: Final = Shape(
    within("data", CHAT_TEXTS),
    lambda event: is_chat_delta(event.get("data") or {}),
    within("data", CHAT_LISTS),
    within("data", CHAT.latest),
)


# OpenAI Responses.


def is_responses_delta(event: Event) -> bool:
    """Return False also for audio, which is base64 with its own padding in each event."""
    kind: str = event.get("type", "")
    return kind.endswith(".delta") and kind != "response.audio.delta"


RESPONSES: Final = Shape(
    [("delta",)], is_responses_delta, [("logprobs",)], [("sequence_number",), ("obfuscation",)]
)


# Anthropic Messages.

ANTHROPIC_TEXTS: Final = {"text", "thinking", "partial_json"}


def is_anthropic_delta(event: Event) -> bool:
    """Return False for signatures and compactions, and for deltas that have more than text."""
    delta: Event = event["delta"] if event.get("type") == "content_block_delta" else {}
    return delta.keys() - {"type"} <= ANTHROPIC_TEXTS


ANTHROPIC: Final = Shape([("delta", name) for name in sorted(ANTHROPIC_TEXTS)], is_anthropic_delta)


# Gemini.


def is_gemini_delta(chunk: Event) -> bool:
    """Return True for one candidate with one part, which is text or a thought."""
    candidates = chunk.get("candidates") or []
    if len(candidates) != 1 or filled(chunk) & {"prompt_feedback"}:
        return False
    if not filled(candidates[0]) <= {"content", "index"}:
        return False
    parts = (candidates[0].get("content") or {}).get("parts") or []
    return len(parts) == 1 and filled(parts[0]) <= {"text", "thought"}


GEMINI: Final = Shape(
    [("candidates", 0, "content", "parts", 0, "text")],
    is_gemini_delta,
    latest=[("usage_metadata",)],
)


# Cohere v2.

COHERE_DELTAS: Final = {"content-delta", "tool-plan-delta", "tool-call-delta"}
COHERE_MESSAGE: Final[Path] = ("delta", "message")

COHERE: Final = Shape(
    [
        (*COHERE_MESSAGE, "content", "text"),
        (*COHERE_MESSAGE, "content", "thinking"),
        (*COHERE_MESSAGE, "tool_plan"),
        (*COHERE_MESSAGE, "tool_calls", "function", "arguments"),
    ],
    lambda event: event.get("type") in COHERE_DELTAS and not event.get("logprobs"),
)


# Ollama: /api/chat and /api/generate.

OLLAMA_LINE: Final = {"model", "created_at", "message", "response", "thinking", "logprobs"}


def is_ollama_delta(line: Event) -> bool:
    """Return True for a line with text only: no call, no image, no metric, not the last line."""
    message: dict[str, Any] = line.get("message") or {}
    return filled(line) <= OLLAMA_LINE and filled(message) <= {"role", "content", "thinking"}


OLLAMA: Final = Shape(
    [("message", "content"), ("message", "thinking"), ("response",), ("thinking",)],
    is_ollama_delta,
    [("logprobs",)],
    [("created_at",)],
)
