"""Where an event of each format has the text that a client appends to its message.

This is the tests' own description of the formats. It follows their documentation and the code of
their SDKs, and shares nothing with the package. An event that is not described here as a delta must
not be merged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

Data: TypeAlias = dict[str, Any]
Path: TypeAlias = tuple[str | int, ...]


class Delta(NamedTuple):
    """Paths in an event's JSON. Everything else has to be equal in two events that are merged."""

    text: Path
    arrays: tuple[Path, ...] = ()
    """Lists that a client extends."""
    last: tuple[Path, ...] = ()
    """Values that a client replaces."""
    empty: tuple[Path, ...] = ()
    """Other places for text. They have none in this event."""


ABSENT: Final = object()


def at(data: Any, path: Path) -> Any:
    """Return the value at a path, or ABSENT."""
    for step in path:
        inside = (
            step < len(data)
            if isinstance(data, list) and isinstance(step, int)
            else isinstance(data, dict) and step in data
        )
        if not inside:
            return ABSENT
        data = data[step]
    return data


def is_none(data: Any, *path: str | int) -> bool:
    return at(data, path) in (ABSENT, None)


def is_empty(value: Any) -> bool:
    """Return True if a client that adds the value to another one changes nothing."""
    return value is None or (isinstance(value, str | list | dict) and not value)


def lists(data: Data, *paths: Path) -> tuple[Path, ...]:
    return tuple(path for path in paths if isinstance(at(data, path), list))


def only_text(data: Data, paths: list[Path]) -> tuple[Path, tuple[Path, ...]] | None:
    """Return the path that has text, or the first if none has, and the paths that have none.

    Return None if there is no such path, or if several of them have text.
    """
    strings = [path for path in paths if isinstance(at(data, path), str)]
    texts = [path for path in strings if at(data, path)] or strings[:1]
    if len(texts) != 1:
        return None
    return texts[0], tuple(path for path in strings if path != texts[0])


def has_only(data: Data, known: set[str]) -> bool:
    return all(key in known or is_empty(value) for key, value in data.items())


# OpenAI Chat Completions, as many servers send them

CHOICE: Final[Path] = ("choices", 0)
DELTA: Final[Path] = (*CHOICE, "delta")
THINKING: Final[Path] = (*DELTA, "content", 0)
CALL: Final[Path] = (*DELTA, "tool_calls", 0)
CHAT_TEXTS: Final[list[Path]] = [
    *((*DELTA, key) for key in ("content", "refusal", "reasoning_content", "reasoning")),
    (*CALL, "function", "arguments"),
    (*DELTA, "function_call", "arguments"),
    (*THINKING, "thinking", 0, "text"),
]
# The Python SDK adds up every other member of a delta: strings, numbers, lists.
REPEATABLE: Final = {"role", "channel"}
TEXT_KEYS: Final = {str(path[3]) for path in CHAT_TEXTS}


def continues_call(call: Any, keys: set[str]) -> bool:
    """Return True if a tool call only adds arguments to a call that an earlier chunk has opened."""
    return (
        isinstance(call, dict)
        and call.keys() <= keys
        and not call.get("id")
        and not call.get("name")
    )


def is_continuation(delta: Data) -> bool:
    for key, value in delta.items():
        if key not in REPEATABLE | TEXT_KEYS and not is_empty(value):
            return False
    calls, legacy, content = (delta.get(key) for key in ("tool_calls", "function_call", "content"))
    if calls:
        if len(calls) != 1 or not continues_call(calls[0], {"index", "id", "type", "function"}):
            return False
        if not continues_call(calls[0].get("function"), {"name", "arguments"}):
            return False
    if legacy and not continues_call(legacy, {"name", "arguments"}):
        return False
    if isinstance(content, list) and content:
        part = content[0]
        known = part.keys() <= {"type", "thinking", "closed"} and len(part["thinking"]) == 1
        return len(content) == 1 and known and part["thinking"][0].keys() == {"type", "text"}
    return True


def openai_chat(data: Data) -> Delta | None:
    if data.get("object") != "chat.completion.chunk" or len(data.get("choices", ())) != 1:
        return None
    ends = [(*CHOICE, "finish_reason"), (*CHOICE, "native_finish_reason"), (*CHOICE, "text")]
    extras: list[Path] = [("usage",), ("error",), ("x_groq",), ("moderation",)]
    if not all(is_none(data, *path) for path in [*ends, *extras]):
        return None
    delta = at(data, DELTA)
    if not isinstance(delta, dict) or not is_continuation(delta):
        return None
    found = only_text(data, CHAT_TEXTS)
    if found is None:
        return None
    logprobs = (*CHOICE, "logprobs")
    arrays = (*logprobs, "content"), (*logprobs, "refusal"), (*CHOICE, "token_ids")
    text, empty = found
    return Delta(text, lists(data, *arrays), (("created",), ("obfuscation",), ("p",)), empty)


# Formats with a type for each kind of delta

RESPONSES_TYPES: Final = {
    "response.output_text.delta",
    "response.refusal.delta",
    "response.reasoning_text.delta",
    "response.reasoning_summary_text.delta",
    "response.function_call_arguments.delta",
    "response.mcp_call_arguments.delta",
    "response.custom_tool_call_input.delta",
    "response.code_interpreter_call_code.delta",
    "response.shell_call_command.delta",
    "response.audio.transcript.delta",
}


def openai_responses(data: Data) -> Delta | None:
    if data.get("type") not in RESPONSES_TYPES:
        return None
    last = ("sequence_number",), ("obfuscation",)
    return Delta(("delta",), lists(data, ("logprobs",)), last)


def anthropic(data: Data) -> Delta | None:
    if data.get("type") != "content_block_delta":
        return None
    keys = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
    delta = data.get("delta", {})
    key = keys.get(delta.get("type"))
    if key is None or (key == "thinking" and delta.keys() != {"type", "thinking"}):
        return None  # clients add up the `estimated_tokens` beside a thought
    return Delta(("delta", key))


AG_UI_TYPES: Final = {
    "TEXT_MESSAGE_CONTENT",
    "TEXT_MESSAGE_CHUNK",
    "TOOL_CALL_ARGS",
    "TOOL_CALL_CHUNK",
    "REASONING_MESSAGE_CONTENT",
    "REASONING_MESSAGE_CHUNK",
    "THINKING_TEXT_MESSAGE_CONTENT",
}


def ag_ui(data: Data) -> Delta | None:
    if data.get("type") not in AG_UI_TYPES or not is_none(data, "rawEvent"):
        return None
    return Delta(("delta",), last=(("timestamp",),))


def vercel_ui(data: Data) -> Delta | None:
    keys = {"text-delta": "delta", "reasoning-delta": "delta", "tool-input-delta": "inputTextDelta"}
    key = keys.get(str(data.get("type")))
    return None if key is None else Delta((key,))


def cohere(data: Data) -> Delta | None:
    message: Path = ("delta", "message")
    paths: dict[str, list[Path]] = {
        "content-delta": [(*message, "content", "text"), (*message, "content", "thinking")],
        "tool-plan-delta": [(*message, "tool_plan")],
        "tool-call-delta": [(*message, "tool_calls", "function", "arguments")],
    }
    found = only_text(data, paths.get(str(data.get("type")), []))
    if found is None or not is_none(data, "logprobs") or not is_none(data, "delta", "logprobs"):
        return None
    return Delta(found[0], empty=found[1])


# Formats that send the whole envelope each time


def gemini(data: Data) -> Delta | None:
    candidates = data.get("candidates")
    if not candidates or len(candidates) != 1 or "promptFeedback" in data or "error" in data:
        return None
    candidate = candidates[0]
    content = candidate.get("content", {})
    parts = content.get("parts", ())
    if not has_only(candidate, {"content", "index"}) or not content.keys() <= {
        "parts",
        "role",
    }:
        return None
    if len(parts) != 1 or not parts[0].keys() <= {"text", "thought"}:
        return None
    return Delta(("candidates", 0, "content", "parts", 0, "text"), last=(("usageMetadata",),))


def ollama(data: Data) -> Delta | None:
    message = data.get("message", {})
    known = {"model", "created_at", "message", "response", "thinking", "done", "logprobs"}
    if data.get("done") is not False or not has_only(data, known):
        return None
    if not has_only(message, {"role", "content", "thinking"}):
        return None
    paths: list[Path] = [("message", "content"), ("message", "thinking")]
    found = only_text(data, [*paths, ("response",), ("thinking",)])
    if found is None:
        return None
    return Delta(found[0], lists(data, ("logprobs",)), (("created_at",),), found[1])


FINDERS: Final[Mapping[str, Callable[[Data], Delta | None]]] = {
    "openai_chat": openai_chat,
    "openai_responses": openai_responses,
    "anthropic": anthropic,
    "ag_ui": ag_ui,
    "vercel_ui": vercel_ui,
    "gemini": gemini,
    "cohere": cohere,
    "ollama": ollama,
}


def delta_of(format: str, data: Any) -> Delta | None:
    """Return where the delta of an event is, or None if the event must not be merged."""
    try:
        delta = FINDERS[format](data)
    except (AttributeError, IndexError, KeyError, TypeError):
        return None  # the JSON does not have the structure of the format
    return delta if delta is not None and isinstance(at(data, delta.text), str) else None
