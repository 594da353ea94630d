"""OpenAI Chat Completions, as OpenAI and many other servers send them.

Azure, DeepSeek, Groq, Mistral, Ollama, OpenRouter, Together, vLLM, Z.ai and others differ in
details: reasoning is in `reasoning_content` or in `reasoning`; `created` is the time of each chunk
(Groq, Ollama); `obfuscation` (OpenAI) or `p` (Mistral) is random padding; there are token ids
(vLLM).

Clients add up every member of a delta: strings are joined, numbers are summed up. So a delta is
merged only if it has nothing but its text. A role that a server repeats in each chunk (Ollama,
OpenRouter) forbids merging, too: see `openai_chat_repeated_role`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from .._merging import JSONFormat, Rule

DELTA: Final = "choices.0.delta"
TOOL_CALL: Final = f"{DELTA}.tool_calls.0"
THOUGHT: Final = f"{DELTA}.content.0"


def _is_chat(value: Mapping[str, Any]) -> bool:
    return value.get("object") == "chat.completion.chunk"


def _rule(
    path: str,
    only: Mapping[str, Collection[str]],
    *,
    single: Collection[str] = (),
    where: Mapping[str, Any] | None = None,
    text: bool = True,
) -> Rule:
    return Rule(
        delta=f"{DELTA}.{path}",
        where={"object": "chat.completion.chunk", **(where or {})},
        single=("choices", *single),
        only=only,
        ends=("error", "choices.0.finish_reason", "choices.0.native_finish_reason"),
        empty=("usage", "x_groq", "moderation", "choices.0.text"),
        last=("created", "obfuscation", "p"),
        join=("choices.0.logprobs.content", "choices.0.logprobs.refusal", "choices.0.token_ids"),
        text=text,
    )


def _rules(*equal: str) -> tuple[Rule, ...]:
    """Return the rules for a chunk. `equal`: members that a delta may have beside its text, if all
    merged deltas have the same."""
    return (
        # A delta may have several of these members, but only one that is not empty.
        *(
            _rule(name, {DELTA: (name, *equal)})
            for name in ("content", "refusal", "reasoning_content", "reasoning")
        ),
        _rule(
            "tool_calls.0.function.arguments",
            {
                DELTA: ("tool_calls", *equal),
                TOOL_CALL: ("index", "function"),
                f"{TOOL_CALL}.function": ("arguments",),
            },
            single=(f"{DELTA}.tool_calls",),
            text=False,
        ),
        _rule(
            "function_call.arguments",
            {DELTA: ("function_call", *equal), f"{DELTA}.function_call": ("arguments",)},
            text=False,
        ),
        # Mistral's reasoning models.
        _rule(
            "content.0.thinking.0.text",
            {
                DELTA: ("content", *equal),
                THOUGHT: ("type", "thinking", "closed"),
                f"{THOUGHT}.thinking.0": ("type", "text"),
            },
            single=(f"{DELTA}.content", f"{THOUGHT}.thinking"),
            where={f"{THOUGHT}.type": "thinking", f"{THOUGHT}.thinking.0.type": "text"},
        ),
    )


openai_chat: Final = JSONFormat(name="openai_chat", recognise=_is_chat, rules=_rules())

openai_chat_repeated_role: Final = JSONFormat(
    name="openai_chat_repeated_role", recognise=_is_chat, rules=_rules("role", "channel")
)
"""Chat Completions of servers that repeat the role (or Groq's channel) in every chunk.

Opt-in, because OpenAI's Python client joins repeated roles to `"assistantassistant"`: fewer events
make fewer repetitions. Other clients end up with the same.
"""
