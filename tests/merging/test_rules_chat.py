"""OpenAI Chat Completions of all servers, and legacy Completions: which events are merged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from sse_batching import formats
from sse_batching._merging import Merger
from sse_batching._merging._template import HURRY, MAY_WAIT
from tests.merging.merged import is_unchanged, merged, sse

CHAT = formats.openai_chat


def chunk(
    delta: Mapping[str, Any], choice: Mapping[str, Any] | None = None, /, **top: Any
) -> bytes:
    """Return a chunk. `choice` and `top` are other members of the choice and of the chunk."""
    choices = [{"index": 0, "delta": delta, **(choice or {})}]
    return sse({"id": "c", "object": "chat.completion.chunk", "choices": choices, **top})


def text(content: str, choice: Mapping[str, Any] | None = None, /, **top: Any) -> bytes:
    return chunk({"content": content}, choice, **top)


def call(**function: Any) -> Mapping[str, Any]:
    return {"tool_calls": [{"index": 0, "function": function}]}


def thought(value: str, **more: Any) -> Mapping[str, Any]:
    """Return a delta of Mistral's reasoning models."""
    inside = [{"type": "text", "text": value}]
    return {"content": [{"type": "thinking", "thinking": inside, **more}]}


@pytest.mark.parametrize("name", ["content", "refusal", "reasoning_content", "reasoning"])
def test_text_is_merged(name: str) -> None:
    """Answers, refusals and reasoning are merged. Other texts beside them may be null or empty."""
    others = {"content": "", "refusal": None, "reasoning": "", "reasoning_content": None}
    for beside in ({}, {other: value for other, value in others.items() if other != name}):
        a, b, ab = (chunk({**beside, name: value}) for value in ("a", "b", "ab"))
        assert merged(CHAT, a, b) == ab


@pytest.mark.parametrize(
    ("first", "last", "joined"),
    [
        pytest.param(call(arguments="a"), call(arguments="b"), call(arguments="ab"), id="tool"),
        pytest.param(
            {"function_call": {"arguments": "a"}},
            {"function_call": {"arguments": "b"}},
            {"function_call": {"arguments": "ab"}},
            id="function",
        ),
        pytest.param(thought("a"), thought("b"), thought("ab"), id="mistral"),
    ],
)
def test_what_is_further_inside_is_merged(first: Any, last: Any, joined: Any) -> None:
    """Arguments of tools and functions are merged, and thoughts in a list. Pitfall 37."""
    assert merged(CHAT, chunk(first), chunk(last)) == chunk(joined)


def test_text_is_not_merged_with_reasoning() -> None:
    """Text and reasoning are not merged with each other, because clients keep them apart."""
    assert is_unchanged(CHAT, text("a"), chunk({"reasoning": "b"}), text("c"))


@pytest.mark.parametrize(
    "delta",
    [
        pytest.param({"role": "assistant", "content": "a"}, id="role"),
        pytest.param({"channel": "analysis", "reasoning": "a"}, id="channel"),
        pytest.param({"content": "a", "refusal": "a"}, id="two-texts"),
        pytest.param({"content": "a", "reasoning": "a"}, id="text-and-reasoning"),
        pytest.param({"reasoning": "a", "reasoning_content": "a"}, id="reasoning-twice"),
        pytest.param({"reasoning": "a", "reasoning_details": [{"text": "a"}]}, id="details"),
        pytest.param({"content": "a", "annotations": [{}]}, id="annotations"),
        pytest.param({"content": "a", "audio": {"data": "YQ=="}}, id="audio"),
        pytest.param({"content": "a", "token_id": 5}, id="a-number-to-be-added"),
        pytest.param({"content": "a", "new": "x"}, id="an-unknown-string"),
        pytest.param({"content": "a", "new": False}, id="an-unknown-flag"),
        pytest.param({"content": "a", **call(arguments="")}, id="text-and-a-call"),
        pytest.param({"content": ["a"]}, id="content-that-is-a-list"),
        pytest.param({}, id="nothing"),
        pytest.param(call(name="f", arguments="a"), id="opener-with-a-name"),
        pytest.param(
            {"tool_calls": [{"index": 0, "id": "t", "function": {"arguments": "a"}}]},
            id="opener-with-an-id",
        ),
        pytest.param(
            {"tool_calls": [{"type": "function", "function": {"arguments": "a"}}]},
            id="opener-with-a-type",
        ),
        pytest.param(
            {"tool_calls": [{"index": n, "function": {"arguments": "a"}} for n in (0, 1)]},
            id="two-calls",
        ),
        pytest.param({"function_call": {"name": "f", "arguments": "a"}}, id="function-opener"),
        pytest.param(thought("a", new=True), id="a-thought-with-more"),
        pytest.param({"content": [*thought("a")["content"]] * 2}, id="two-thoughts"),
        pytest.param({"content": [{"type": "text", "text": "a"}]}, id="text-in-a-list"),
    ],
)
def test_a_delta_with_more_than_its_text_is_left(delta: Mapping[str, Any]) -> None:
    """A delta with more than its text is not merged, because clients add up all its members."""
    assert is_unchanged(CHAT, chunk(delta), chunk(delta))


@pytest.mark.parametrize(
    "choice",
    [
        {"finish_reason": "stop"},
        {"native_finish_reason": "stop"},
        {"text": "a"},
    ],
    ids=str,
)
def test_a_choice_that_ends_or_says_it_twice_is_left(choice: Mapping[str, Any]) -> None:
    """A choice with a finish, or with its text twice, is not merged."""
    assert is_unchanged(CHAT, text("a", choice), text("b", choice))


@pytest.mark.parametrize(
    "top",
    [
        {"usage": {"total_tokens": 1}},
        {"error": {"message": "x"}},
        {"x_groq": {"id": "x"}},
        {"moderation": {"flagged": False}},
        {"choices": []},
        {"object": "something.else"},
    ],
    ids=str,
)
def test_a_chunk_that_counts_fails_or_is_another_is_left(top: Mapping[str, Any]) -> None:
    """A chunk with usage, with an error, without choices or of another kind is not merged."""
    assert is_unchanged(CHAT, text("a", **top), text("b", **top))


@pytest.mark.parametrize(
    ("choice", "top"),
    [
        ({"finish_reason": None, "native_finish_reason": None, "logprobs": None}, {}),
        ({}, {"usage": None, "x_groq": None, "moderation": None, "service_tier": "default"}),
        ({"content_filter_results": {"hate": {"filtered": False}}}, {"provider": "p"}),
    ],
    ids=str,
)
def test_what_says_nothing_or_is_equal_does_not_hinder(choice: Any, top: Any) -> None:
    """Null members, and members that are equal in all chunks, do not forbid merging."""
    a, b, ab = (text(value, choice, **top) for value in ("a", "b", "ab"))
    assert merged(CHAT, a, b) == ab


def test_several_choices_are_left() -> None:
    """Several choices in one chunk, or in alternating chunks, are not merged."""
    both = [{"index": n, "delta": {"content": "a"}} for n in (0, 1)]
    chunks = [sse({"object": "chat.completion.chunk", "choices": both})] * 2
    assert is_unchanged(CHAT, *chunks)
    assert is_unchanged(CHAT, *(text("a", {"index": n % 2}) for n in range(6)))


@pytest.mark.parametrize("name", ["id", "model", "system_fingerprint", "service_tier", "new"])
def test_chunks_of_different_answers_are_left(name: str) -> None:
    """Chunks that differ in an id, a model or the like are not merged (Groq's web search)."""
    assert is_unchanged(CHAT, text("a", **{name: "x"}), text("b", **{name: "y"}))


def test_calls_of_different_tools_are_left() -> None:
    """Tool calls with different indexes are not merged."""
    calls = [{"tool_calls": [{"index": n, "function": {"arguments": "{"}}]} for n in (0, 1)]
    assert is_unchanged(CHAT, *(chunk(call) for call in calls))


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("created", 1, 200), ("obfuscation", "x", "yz"), ("obfuscation", "", "a"), ("p", "a", "bcd")],
)
def test_of_times_and_padding_the_last_counts(name: str, first: Any, last: Any) -> None:
    """The merged chunk has the last time (Groq, Ollama) and the last padding (OpenAI, Mistral)."""
    chunks = [text("a", **{name: first}), text("b", **{name: last})]
    assert merged(CHAT, *chunks) == text("ab", **{name: last})


@pytest.mark.parametrize("name", ["content", "refusal"])
@pytest.mark.parametrize(
    "values", [([], []), ([], [1]), ([1], []), ([{"token": "a"}], [{"token": "b"}, 3])], ids=str
)
def test_logprobs_are_joined(name: str, values: tuple[list[Any], list[Any]]) -> None:
    """Lists of logprobs are joined, empty ones as well, because clients extend their list."""
    a, b, ab = (
        text(value, {"logprobs": {name: tokens}})
        for value, tokens in zip(("a", "b", "ab"), (*values, values[0] + values[1]), strict=True)
    )
    assert merged(CHAT, a, b) == ab


def test_token_ids_are_joined() -> None:
    """Lists of token ids are joined. vLLM sends them on request."""
    chunks = [text("a", {"token_ids": [1, 2]}), text("b", {"token_ids": [3]})]
    assert merged(CHAT, *chunks) == text("ab", {"token_ids": [1, 2, 3]})


@pytest.mark.parametrize("values", [(None, [1]), ([1], None), (None, []), ([], None)], ids=str)
def test_an_array_is_not_joined_with_null(values: tuple[Any, Any]) -> None:
    """An array is not merged with null, because their meanings differ."""
    assert is_unchanged(CHAT, *(text("a", {"logprobs": {"content": value}}) for value in values))
    assert is_unchanged(CHAT, *(text("a", {"token_ids": value}) for value in values))


@pytest.mark.parametrize("name", ["role", "channel"])
def test_a_repeated_role_is_merged_if_asked_for(name: str) -> None:
    """Only `openai_chat_repeated_role` merges deltas with a role, if the roles are equal."""
    lenient = formats.openai_chat_repeated_role
    a, b, ab = (chunk({name: "x", "content": value}) for value in ("a", "b", "ab"))
    assert merged(lenient, a, b) == ab
    assert is_unchanged(lenient, a, chunk({name: "y", "content": "b"}))
    assert is_unchanged(lenient, a, text("b"))
    assert is_unchanged(CHAT, a, b)


@pytest.mark.parametrize("tag", ["<think>", "</think>", "<thinking>", "</thinking>"])
@pytest.mark.parametrize("around", ["", "\n", " \n"])
def test_a_thinking_tag_stands_alone(tag: str, around: str) -> None:
    """A delta that is only a tag, escaped or not, is not merged: some clients look for it."""
    for delta in (
        text(around + tag + around),
        sse(text(tag)[6:-2].decode().replace("<", "\\u003c").replace(">", "\\u003E")),
        sse(text(tag)[6:-2].decode().replace("/", "\\/")),
    ):
        assert is_unchanged(CHAT, text("a"), delta, text("b"))
        assert is_unchanged(CHAT, delta, delta, text("b"))


def test_a_tag_among_other_text_is_text() -> None:
    """A tag with other text beside it is merged, because clients do not look for it."""
    chunks = [text("a"), text("<think>b"), text(" thinking "), text("<thin"), text("k>")]
    assert merged(CHAT, *chunks) == text("a<think>b thinking <think>")


def test_no_tag_comes_of_merging() -> None:
    """Pieces of a tag are not merged into a tag, because clients would find a new tag."""
    assert is_unchanged(CHAT, text("<thin"), text("k>"))
    assert is_unchanged(CHAT, text("</"), text("think>"))


def test_a_tag_among_arguments_is_nothing_special() -> None:
    """Tags in the arguments of a tool are merged: no client looks for them there."""
    chunks = [chunk(call(arguments=value)) for value in ("", "<think>", " ", "</think>")]
    assert merged(CHAT, *chunks) == chunk(call(arguments="<think> </think>"))


@pytest.mark.parametrize("blank", [" ", "\n\n", "\t", "\u00a0", "\u2028"], ids=repr)
def test_blank_text_begins_no_run(blank: str) -> None:
    """Blank text is merged only behind other text. Some clients drop it at the beginning."""
    assert is_unchanged(CHAT, text(blank), text("b"))
    assert merged(CHAT, text("a"), text(blank), text("b")) == text(f"a{blank}b")


def test_an_empty_text_is_left() -> None:
    """Empty text is not merged at the beginning of a run. Inside a run it changes nothing."""
    assert is_unchanged(CHAT, text(""), text("b"))
    found = merged(CHAT, text("a"), text(""), text("b"))
    assert found in {text("a") + text("") + text("b"), text("ab")}


def test_the_end_is_left() -> None:
    """The finish, the usage and `[DONE]` pass through unchanged."""
    finish = chunk({}, {"finish_reason": "stop"})
    usage = sse({"object": "chat.completion.chunk", "choices": [], "usage": {"total_tokens": 2}})
    end = finish + usage + sse("[DONE]")
    assert merged(CHAT, text("a"), text("b"), finish, usage, sse("[DONE]")) == text("ab") + end


# The legacy Completions.


def completion(value: str, choice: Mapping[str, Any] | None = None, /, **top: Any) -> bytes:
    choices = [{"index": 0, "text": value, **(choice or {})}]
    return sse({"object": "text_completion", "choices": choices, **top})


def test_legacy_completions_are_merged() -> None:
    """Legacy Completions are merged, with the last time."""
    chunks = [completion("a", {"finish_reason": None}, created=n) for n in (1, 2)]
    assert merged(formats.openai_completions, *chunks) == (
        completion("aa", {"finish_reason": None}, created=2)
    )


@pytest.mark.parametrize(
    ("choice", "top"),
    [
        ({"finish_reason": "stop"}, {}),
        ({"logprobs": {"tokens": ["a"]}}, {}),
        ({}, {"usage": {"total_tokens": 1}}),
        ({}, {"error": {"message": "x"}}),
        ({}, {"choices": [{"index": n, "text": "a"} for n in (0, 1)]}),
        ({}, {"object": "another"}),
    ],
    ids=str,
)
def test_legacy_completions_with_more_than_text_are_left(choice: Any, top: Any) -> None:
    """Legacy Completions with a finish, usage, an error or logprobs are not merged."""
    assert is_unchanged(formats.openai_completions, *[completion("a", choice, **top)] * 2)


@pytest.mark.parametrize(
    ("choice", "top", "waits"),
    [
        ({}, {}, True),
        ({"text": "x"}, {}, True),
        ({}, {"usage": {"total_tokens": 3}}, True),
        ({"finish_reason": "stop"}, {}, False),
        ({"native_finish_reason": "stop"}, {}, False),
        ({}, {"error": {"message": "x"}}, False),
    ],
)
def test_text_waits_but_not_with_an_end(
    choice: Mapping[str, Any], top: Mapping[str, Any], waits: bool
) -> None:
    """Text waits, also if it may not be merged. A chunk with a finish or an error does not wait."""
    merger = Merger([CHAT])
    merger.add(chunk({"role": "assistant"}))
    assert merger.add(text("a", choice, **top)) is (MAY_WAIT if waits else HURRY)
