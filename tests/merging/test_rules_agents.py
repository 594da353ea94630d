"""Anthropic Messages, AG-UI and Vercel's UI messages: which events are merged."""

from __future__ import annotations

from typing import Any

import pytest

from sse_batching import formats
from sse_batching._merging import Format, Merger
from sse_batching._merging._merger import Mode
from tests.merging.merged import OPENERS, is_unchanged, merged, sse, typed

ANTHROPIC, AG_UI, VERCEL = formats.anthropic_messages, formats.ag_ui, formats.vercel_ui

# Anthropic.


def part(kind: str, index: int = 0, /, **delta: Any) -> bytes:
    return typed({"type": "content_block_delta", "index": index, "delta": {"type": kind, **delta}})


def text(value: str, **more: Any) -> bytes:
    return part("text_delta", text=value, **more)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("text_delta", "text"), ("thinking_delta", "thinking"), ("input_json_delta", "partial_json")],
)
def test_anthropic_deltas_are_merged(kind: str, name: str) -> None:
    """Text, thoughts and tool input are merged, except across blocks and with other members."""
    a, b, ab = (part(kind, **{name: value}) for value in ("a", "b", "ab"))
    assert merged(ANTHROPIC, a, b) == ab
    assert is_unchanged(ANTHROPIC, a, part(kind, 1, **{name: "b"}))
    assert is_unchanged(ANTHROPIC, *[part(kind, **{name: "a", "new": 1})] * 2)
    assert is_unchanged(ANTHROPIC, *[part("another_delta", **{name: "a"})] * 2)


@pytest.mark.parametrize(
    ("kind", "delta"),
    [
        ("signature_delta", {"signature": "AAA"}),
        ("citations_delta", {"citation": {"cited_text": "x"}}),
        ("compaction_delta", {"content": "x"}),
        ("thinking_delta", {"thinking": "a", "estimated_tokens": 5}),
        ("thinking_delta", {"thinking": "a", "estimated_tokens": 0}),
    ],
)
def test_anthropic_deltas_that_are_set_or_counted_are_left(kind: str, delta: Any) -> None:
    """Deltas that clients do not join are not merged: they set signatures, and sum up estimates."""
    assert is_unchanged(ANTHROPIC, *[part(kind, **delta)] * 2)


def test_anthropic_deltas_without_a_name_are_left() -> None:
    """Events without a name are not merged, because clients ignore them."""
    nameless = [text(value).partition(b"\n")[2] for value in "ab"]
    assert is_unchanged(ANTHROPIC, *nameless)


@pytest.mark.parametrize("spaces", [(0, 5), (5, 0), (15, 15), (1, 2)])
def test_anthropic_padding_does_not_count(spaces: tuple[int, int]) -> None:
    """Events with different padding are merged. Anthropic adds up to 15 spaces."""
    first, last, joined = (
        text(value).replace(b"}\n", b" " * count + b"}\n")
        for value, count in zip(("a", "b", "ab"), (*spaces, spaces[1]), strict=True)
    )
    assert merged(ANTHROPIC, first, last) == joined


def test_anthropic_empty_input_may_come_first() -> None:
    """An empty first piece of tool input is merged, as no client looks for it."""
    chunks = [part("input_json_delta", partial_json=value) for value in ("", '{"a"', ": 1}")]
    assert merged(ANTHROPIC, *chunks) == part("input_json_delta", partial_json='{"a": 1}')


@pytest.mark.parametrize("kind", ["text_delta", "thinking_delta"])
def test_anthropic_blank_text_and_tags_stand_alone(kind: str) -> None:
    """Blank text and tags are not merged, because some clients look for them."""
    name = kind.removesuffix("_delta")
    for value in (" ", "<thinking>"):
        assert is_unchanged(ANTHROPIC, *(part(kind, **{name: delta}) for delta in (value, "a")))


@pytest.mark.parametrize(
    "kind",
    [
        "ping",
        "error",
        "content_block_start",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "something_new",
    ],
)
def test_other_anthropic_events_stand_between(kind: str) -> None:
    """Other events, such as a ping, pass through, and deltas around them are not merged."""
    other = typed({"type": kind, "index": 0})
    assert is_unchanged(ANTHROPIC, text("a"), other, text("b"))


# AG-UI.


def content(delta: str, kind: str = "TEXT_MESSAGE_CONTENT", **more: Any) -> bytes:
    return sse({"type": kind, **more, "delta": delta})


AG_UI_TEXTS = [
    "TEXT_MESSAGE_CONTENT",
    "TEXT_MESSAGE_CHUNK",
    "REASONING_MESSAGE_CONTENT",
    "REASONING_MESSAGE_CHUNK",
    "THINKING_TEXT_MESSAGE_CONTENT",
]
AG_UI_INPUTS = ["TOOL_CALL_ARGS", "TOOL_CALL_CHUNK"]


@pytest.mark.parametrize("kind", AG_UI_TEXTS + AG_UI_INPUTS)
def test_ag_ui_deltas_are_merged(kind: str) -> None:
    """Text, reasoning and arguments are merged, with the last time."""
    first, last = content("a", kind, timestamp=1), content("b", kind, timestamp=22)
    assert merged(AG_UI, first, last) == content("ab", kind, timestamp=22)
    assert is_unchanged(AG_UI, content("\n", kind), content("a", kind)) is (kind in AG_UI_TEXTS)


@pytest.mark.parametrize(
    "key",
    [
        "messageId",
        "toolCallId",
        "role",
        "name",
        "toolCallName",
        "parentMessageId",
        "subagentRunId",
        "new",
    ],
)
def test_ag_ui_deltas_of_different_messages_are_left(key: str) -> None:
    """Deltas are not merged if a key differs, or if only the first has it and opens a message."""
    for kind in AG_UI_TEXTS + AG_UI_INPUTS:
        first = content("a", kind, **{key: "x"})
        assert is_unchanged(AG_UI, first, content("b", kind, **{key: "y"}))
        assert is_unchanged(AG_UI, first, content("b", kind))


def test_ag_ui_metadata_has_to_be_equal() -> None:
    """Deltas with different metadata are not merged: clients combine the metadata of all events."""
    same = [content(value, metadata={"k": 1}) for value in ("a", "b", "ab")]
    assert merged(AG_UI, *same[:2]) == same[2]
    assert is_unchanged(AG_UI, same[0], content("b", metadata={"k": 2}))
    assert is_unchanged(AG_UI, same[0], content("b"))


def test_ag_ui_raw_events_are_left() -> None:
    """A delta with the raw event of a provider is not merged, unless it is null."""
    assert is_unchanged(AG_UI, *[content("a", rawEvent={"x": 1})] * 2)
    null = content("aa", rawEvent=None)
    assert merged(AG_UI, *[content("a", rawEvent=None)] * 2) == null


@pytest.mark.parametrize(
    "kind",
    ["TEXT_MESSAGE_END", "TOOL_CALL_END", "STATE_DELTA", "CUSTOM", "RAW", "STEP_STARTED", "NEW"],
)
def test_other_ag_ui_events_are_left(kind: str) -> None:
    """Other events with a member `delta` are not merged, and keep their places."""
    other = content("x", kind)
    found = merged(AG_UI, content("a"), content("b"), other, other, content("c"))
    assert found == content("ab") + other + other + content("c")


@pytest.mark.parametrize("first", ["RUN_STARTED", "RUN_ERROR"])
def test_ag_ui_is_known_by_the_start_of_its_run(first: str) -> None:
    """The format is detected by `RUN_STARTED`, or by `RUN_ERROR`."""
    events = [content("a"), content("b")]
    assert merged(AG_UI, *events, opener=sse({"type": first})) == content("ab")
    assert is_unchanged(AG_UI, *events, opener=sse({"type": "CUSTOM"}))


# Vercel.


VERCEL_DELTAS = [
    ("text-delta", "delta", "id"),
    ("reasoning-delta", "delta", "id"),
    ("tool-input-delta", "inputTextDelta", "toolCallId"),
]


@pytest.mark.parametrize(("kind", "name", "key"), VERCEL_DELTAS)
def test_vercel_deltas_are_merged(kind: str, name: str, key: str) -> None:
    """Deltas of one part are merged if they have its key, and no metadata."""

    def delta(value: str, **more: Any) -> bytes:
        return sse({"type": kind, key: "1", name: value, **more})

    assert merged(VERCEL, delta("a"), delta("b")) == delta("ab")
    assert merged(VERCEL, *[delta("a", providerMetadata=None)] * 2) == (
        delta("aa", providerMetadata=None)
    )
    for more in ({key: "2"}, {"new": 1}):
        assert is_unchanged(VERCEL, delta("a"), delta("b", **more))
    assert is_unchanged(VERCEL, *[delta("a", providerMetadata={"p": 1})] * 2)
    assert is_unchanged(VERCEL, *[sse({"type": kind, name: "a"})] * 2)
    assert is_unchanged(VERCEL, delta(" "), delta("a")) is (name == "delta")


@pytest.mark.parametrize("kind", ["text-start", "text-end", "data-x", "finish-step", "new-delta"])
def test_other_vercel_events_are_left(kind: str) -> None:
    """Other events are not merged, although they have the members of a delta."""
    assert is_unchanged(VERCEL, *[sse({"type": kind, "id": "1", "delta": "a"})] * 2)


def test_vercel_ends_as_it_came() -> None:
    """The finish and `[DONE]` pass through unchanged."""
    delta = sse({"type": "text-delta", "id": "1", "delta": "a"})
    assert is_unchanged(VERCEL, delta, sse({"type": "finish"}), sse("[DONE]"))


# Detecting the format.


@pytest.mark.parametrize("format", formats.auto, ids=lambda format: format.name)
def test_no_event_is_of_two_formats(format: Format) -> None:
    """Only one format recognises the opener of each format."""
    for other in formats.auto:
        merger = Merger([other], lines=format is formats.ollama)
        merger.add(OPENERS[format.name])
        assert (merger.mode is Mode.MERGING) is (other is format), other.name
