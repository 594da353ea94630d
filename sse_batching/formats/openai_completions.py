"""OpenAI's legacy Completions, which vLLM and others still send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .._merging import JSONFormat, Rule


def _is_completion(value: Mapping[str, Any]) -> bool:
    return value.get("object") == "text_completion"


openai_completions: Final = JSONFormat(
    name="openai_completions",
    recognise=_is_completion,
    rules=(
        Rule(
            delta="choices.0.text",
            where={"object": "text_completion"},
            single=("choices",),
            ends=("error", "choices.0.finish_reason"),
            empty=("usage", "choices.0.logprobs"),
            last=("created",),
        ),
    ),
)
