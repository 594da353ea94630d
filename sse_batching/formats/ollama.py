"""Ollama's own API: newline-delimited JSON from `/api/chat` and `/api/generate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .._merging import JSONFormat, Rule


def _is_ollama(value: Mapping[str, Any]) -> bool:
    return "model" in value and "created_at" in value and "done" in value


def _rule(delta: str, only: Mapping[str, tuple[str, ...]]) -> Rule:
    return Rule(
        delta=delta,
        where={"done": False},
        present=("model", "created_at"),
        ends=("error",),
        only=only,
        last=("created_at",),
        join=("logprobs",),
    )


EVERY_LINE: Final = ("model", "created_at", "done", "logprobs")

ollama: Final = JSONFormat(
    name="ollama",
    recognise=_is_ollama,
    rules=(
        *(
            _rule(f"message.{name}", {"": (*EVERY_LINE, "message"), "message": ("role", name)})
            for name in ("content", "thinking")
        ),
        *(_rule(name, {"": (*EVERY_LINE, name)}) for name in ("response", "thinking")),
    ),
)
