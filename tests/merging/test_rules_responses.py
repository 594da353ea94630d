"""OpenAI Responses: which events are merged."""

from __future__ import annotations

from typing import Any

import pytest

from sse_batching import formats
from tests.merging.merged import is_unchanged, merged, sse, typed

RESPONSES = formats.openai_responses

TEXTS = ["output_text", "refusal", "reasoning_text", "reasoning_summary_text", "audio.transcript"]
INPUTS = [
    "function_call_arguments",
    "mcp_call_arguments",
    "custom_tool_call_input",
    "code_interpreter_call_code",
    "shell_call_command",
]


def event(kind: str, delta: object, **more: Any) -> bytes:
    return typed({"type": f"response.{kind}.delta", "delta": delta, **more})


def text(delta: str, **more: Any) -> bytes:
    return event("output_text", delta, item_id="m", output_index=0, content_index=0, **more)


@pytest.mark.parametrize("kind", [*TEXTS, *INPUTS])
def test_deltas_are_merged(kind: str) -> None:
    """Deltas whose text clients join are merged, with an event name or without one."""
    a, b, ab = (event(kind, value, output_index=0) for value in ("a", "b", "ab"))
    assert merged(RESPONSES, a, b) == ab
    nameless = [part.partition(b"\n")[2] for part in (a, b, ab)]
    assert merged(RESPONSES, *nameless[:2]) == nameless[2]


@pytest.mark.parametrize("kind", [*TEXTS, *INPUTS])
def test_tags_and_blanks_stand_alone_in_text_only(kind: str) -> None:
    """Tags and blank text are not merged. In the input of tools they are."""
    events = [event(kind, value) for value in ("\n", "<think>", "a")]
    assert is_unchanged(RESPONSES, *events) is (kind in TEXTS)


@pytest.mark.parametrize(
    ("kind", "delta"),
    [
        ("audio", "YWJjZA=="),
        ("shell_call_output_content", {"stdout": "a", "stderr": ""}),
        ("output_text.annotation", "a"),
        ("something_new", "a"),
    ],
)
def test_other_deltas_are_left(kind: str, delta: object) -> None:
    """Other deltas are not merged: padded base64 cannot be joined, and clients may set a value."""
    assert is_unchanged(RESPONSES, *[event(kind, delta)] * 2)


@pytest.mark.parametrize("kind", ["done", "added"])
def test_an_event_that_is_no_delta_is_left(kind: str) -> None:
    """An event of another type is not merged, although it has a member `delta`."""
    assert is_unchanged(
        RESPONSES, *[typed({"type": f"response.output_text.{kind}", "delta": "a"})] * 2
    )


@pytest.mark.parametrize(
    "key",
    ["item_id", "output_index", "content_index", "summary_index", "command_index", "something_new"],
)
def test_deltas_of_different_items_are_left(key: str) -> None:
    """Deltas are not merged if any of their keys differs."""
    assert is_unchanged(
        RESPONSES, event("output_text", "a", **{key: 1}), event("output_text", "b", **{key: 2})
    )


def test_deltas_of_different_types_are_left() -> None:
    """Deltas of text and of a refusal are not merged with each other."""
    assert is_unchanged(RESPONSES, event("output_text", "a"), event("refusal", "b"))


@pytest.mark.parametrize("before", [True, False], ids=["before-the-delta", "behind-it"])
def test_the_merged_event_has_the_last_number(before: bool) -> None:
    """The merged event has the last number: a client that resumes there gets nothing twice."""

    def numbered(number: int, delta: str) -> bytes:
        place = {"sequence_number": number}
        fields = {**place, "delta": delta} if before else {"delta": delta, **place}
        return typed({"type": "response.output_text.delta", **fields})

    assert merged(RESPONSES, *(numbered(n, "a") for n in range(8, 12))) == numbered(11, "aaaa")


def test_a_number_in_one_of_two_forbids() -> None:
    """An event with a number is not merged with one that has none."""
    assert is_unchanged(RESPONSES, text("a"), text("b", sequence_number=7))


def test_of_the_obfuscation_the_last_counts() -> None:
    """The merged event has the last padding."""
    chunks = [text("a", obfuscation="xyz"), text("b", obfuscation="")]
    assert merged(RESPONSES, *chunks) == text("ab", obfuscation="")


@pytest.mark.parametrize("values", [([], []), ([], [1]), ([1], []), ([1], [2, 3])], ids=str)
def test_logprobs_are_joined(values: tuple[list[int], list[int]]) -> None:
    """The lists of logprobs are joined, empty or not."""
    chunks = [text("a", logprobs=values[0]), text("b", logprobs=values[1])]
    assert merged(RESPONSES, *chunks) == text("ab", logprobs=values[0] + values[1])


def test_logprobs_are_not_joined_with_null() -> None:
    """A list of logprobs is not joined with null, or with an event that has no list."""
    assert is_unchanged(RESPONSES, text("a", logprobs=None), text("b", logprobs=[]))
    assert is_unchanged(RESPONSES, text("a"), text("b", logprobs=[]))


def test_what_the_answer_consists_of_is_left() -> None:
    """Events of the lifecycle, of items and parts, and errors pass through in their places."""
    kinds = ["in_progress", "output_item.added", "content_part.added", "completed", "queued"]
    events = [typed({"type": f"response.{kind}"}) for kind in kinds]
    for other in (*events, typed({"type": "error", "message": "x"}), sse("[DONE]")):
        assert merged(RESPONSES, text("a"), text("b"), other, text("c")) == (
            text("ab") + other + text("c")
        )
