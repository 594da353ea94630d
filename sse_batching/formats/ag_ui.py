"""AG-UI.

Its verifier ends the run with an error where text comes for a message that is not open: so what is
pending must be out before any other event, as it is for every format.
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
