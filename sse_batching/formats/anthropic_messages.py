"""Anthropic Messages.

Deltas of signatures, citations and compactions are not merged: each has a whole value, and not a
piece to be joined to others. A delta with another member beside its text is not merged either, for
example with `estimated_tokens`, which clients sum up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .._merging import JSONFormat, Rule


def _is_message(value: Mapping[str, Any]) -> bool:
    return value.get("type") == "message_start"


anthropic_messages: Final = JSONFormat(
    name="anthropic_messages",
    mark=b"content_block_delta",
    recognise=_is_message,
    rules=tuple(
        Rule(
            delta=f"delta.{field}",
            event="content_block_delta",
            where={"type": "content_block_delta", "delta.type": kind},
            only={"delta": ("type", field)},
            text=field != "partial_json",
        )
        for kind, field in (
            ("text_delta", "text"),
            ("thinking_delta", "thinking"),
            ("input_json_delta", "partial_json"),
        )
    ),
)
