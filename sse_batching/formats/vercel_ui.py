"""The UI message stream of Vercel's AI SDK.

The format is recognised by the header that the SDK's documentation asks for. The events alone are
not enough, because many other streams begin with `{"type": "start"}`, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .._merging import JSONFormat, Rule


def _is_message(value: Mapping[str, Any]) -> bool:
    return value.get("type") == "start"


vercel_ui: Final = JSONFormat(
    name="vercel_ui",
    mark=b"-delta",
    header=b"x-vercel-ai-ui-message-stream",
    recognise=_is_message,
    rules=tuple(
        Rule(
            delta=delta,
            where={"type": kind},
            present=(key,),
            empty=("providerMetadata",),
            text=delta == "delta",
        )
        for kind, delta, key in (
            ("text-delta", "delta", "id"),
            ("reasoning-delta", "delta", "id"),
            ("tool-input-delta", "inputTextDelta", "toolCallId"),
        )
    ),
)
