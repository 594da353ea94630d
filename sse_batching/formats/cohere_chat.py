"""Cohere's Chat API, version 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .._merging import JSONFormat, Rule


def _is_message(value: Mapping[str, Any]) -> bool:
    return value.get("type") == "message-start"


def _rule(kind: str, path: str, *, text: bool = True) -> Rule:
    *parents, name = path.split(".")
    inside = ".".join(("delta.message", *parents))
    return Rule(
        delta=f"{inside}.{name}",
        where={"type": kind},
        only={inside: (name,)},
        empty=("logprobs",),
        text=text,
    )


cohere_chat: Final = JSONFormat(
    name="cohere_chat",
    mark=b"-delta",
    recognise=_is_message,
    rules=(
        _rule("content-delta", "content.text"),
        _rule("content-delta", "content.thinking"),
        _rule("tool-plan-delta", "tool_plan"),
        _rule("tool-call-delta", "tool_calls.function.arguments", text=False),
    ),
)
