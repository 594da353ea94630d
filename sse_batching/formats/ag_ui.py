"""AG-UI.

The verifier of its client ends the agent's run with an error if text arrives for a message that is
not open. So pending text must go out before any other event, as in every format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .._merging import JSONFormat, Rule

TEXTS: Final = frozenset(
    {
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_CHUNK",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_CHUNK",
        "THINKING_TEXT_MESSAGE_CONTENT",
    }
)
ARGUMENTS: Final = frozenset({"TOOL_CALL_ARGS", "TOOL_CALL_CHUNK"})


def _is_run(value: Mapping[str, Any]) -> bool:
    return value.get("type") in ("RUN_STARTED", "RUN_ERROR")


ag_ui: Final = JSONFormat(
    name="ag_ui",
    recognise=_is_run,
    rules=tuple(
        Rule(
            delta="delta",
            where={"type": types},
            empty=("rawEvent",),
            last=("timestamp",),
            text=text,
        )
        for types, text in ((TEXTS, True), (ARGUMENTS, False))
    ),
)
