"""OpenAI Responses.

Each event has a sequence number. The merged event has the last number of its run. So a client that
resumes after this number gets what follows, and nothing twice. The response to a GET is a replay.
Clients skip a part of a replay by the numbers, and a merged event could be half old and half new to
them. So a replay is not merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .._merging import JSONFormat, Rule

TEXTS: Final = frozenset(
    {
        "response.output_text.delta",
        "response.refusal.delta",
        "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta",
        "response.audio.transcript.delta",
    }
)
"""The types of text deltas. `response.audio.delta` is not one: padded base64 cannot be joined."""

INPUTS: Final = frozenset(
    {
        "response.function_call_arguments.delta",
        "response.mcp_call_arguments.delta",
        "response.custom_tool_call_input.delta",
        "response.code_interpreter_call_code.delta",
        "response.shell_call_command.delta",
    }
)


def _is_response(value: Mapping[str, Any]) -> bool:
    return str(value.get("type")).startswith("response.")


openai_responses: Final = JSONFormat(
    name="openai_responses",
    mark=b'.delta"',
    recognise=_is_response,
    get_is_replay=True,
    rules=tuple(
        Rule(
            delta="delta",
            where={"type": types},
            last=("sequence_number", "obfuscation"),
            join=("logprobs",),
            text=text,
        )
        for types, text in ((TEXTS, True), (INPUTS, False))
    ),
)
