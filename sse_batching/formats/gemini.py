"""Google Gemini, `streamGenerateContent?alt=sse`.

There is little to merge: the events are large already, and most of them have members that forbid
merging.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .._merging import JSONFormat, Rule


def _is_answer(value: Mapping[str, Any]) -> bool:
    return "candidates" in value or (
        "usageMetadata" in value and ("responseId" in value or "modelVersion" in value)
    )


gemini: Final = JSONFormat(
    name="gemini",
    mark=b'"text"',
    recognise=_is_answer,
    rules=(
        Rule(
            delta="candidates.0.content.parts.0.text",
            ends=("error", "promptFeedback", "candidates.0.finishReason"),
            single=("candidates", "candidates.0.content.parts"),
            only={
                "": ("candidates", "usageMetadata", "modelVersion", "responseId", "createTime"),
                "candidates.0": ("content", "index"),
                "candidates.0.content": ("parts", "role"),
                "candidates.0.content.parts.0": ("text", "thought"),
            },
            last=("usageMetadata",),
        ),
    ),
)
