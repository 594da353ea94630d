"""Gemini, Cohere and Ollama: which events are merged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from sse_batching import formats
from sse_batching._merging import Merger
from sse_batching._merging._merger import Mode
from tests.merging.merged import is_unchanged, line, merged, sse, typed

GEMINI, COHERE, OLLAMA = formats.gemini, formats.cohere_chat, formats.ollama

# Gemini.


def answer(
    text: str,
    part: Mapping[str, Any] | None = None,
    candidate: Mapping[str, Any] | None = None,
    **top: Any,
) -> bytes:
    """Return an answer. `part`, `candidate` and `top` are other members at each level."""
    content = {"parts": [{"text": text, **(part or {})}], "role": "model"}
    fields = {"candidates": [{"content": content, **(candidate or {})}], **top}
    return sse(fields, end="\r\n")


def test_gemini_text_is_merged() -> None:
    """Text is merged, with CRLF line ends and the last running total."""
    usage = [{"totalTokenCount": 1}, {"totalTokenCount": 2, "thoughtsTokenCount": 1}]
    chunks = [answer("a", usageMetadata=usage[0]), answer("b", usageMetadata=usage[1])]
    assert merged(GEMINI, *chunks) == answer("ab", usageMetadata=usage[1])


def test_gemini_text_waits_but_not_with_an_end() -> None:
    """A finish, feedback on the prompt or an error goes out at once. Other text waits."""
    merger = Merger([GEMINI])
    merger.add(answer("a"))
    stop = {"content": {"parts": [{"text": "c"}]}, "finishReason": "STOP"}
    assert not merger.add(answer("b"))
    assert merger.add(answer("c", candidates=[stop]))
    assert merger.add(answer("d", promptFeedback={"blockReason": "OTHER"}))
    assert merger.add(answer("e", error={"code": 500}))


@pytest.mark.parametrize(
    ("part", "candidate", "top"),
    [
        ({"thought": True}, {"index": 0}, {"modelVersion": "m", "responseId": "r"}),
        ({}, {}, {"createTime": "t"}),
        ({}, {"finishReason": None}, {}),
    ],
    ids=str,
)
def test_gemini_members_that_are_equal_do_not_hinder(part: Any, candidate: Any, top: Any) -> None:
    """Known members that are equal, and empty members, do not forbid merging."""
    a, b, ab = (answer(text, part, candidate, **top) for text in ("a", "b", "ab"))
    assert merged(GEMINI, a, b) == ab


@pytest.mark.parametrize(
    ("part", "candidate", "top"),
    [
        ({"thought": False}, {}, {}),
        ({}, {"index": 1}, {}),
        ({}, {}, {"modelVersion": "m"}),
        ({}, {}, {"responseId": "r"}),
        ({}, {}, {"usageMetadata": {}}),
    ],
    ids=str,
)
def test_gemini_members_that_differ_forbid(part: Any, candidate: Any, top: Any) -> None:
    """Answers are not merged if a member differs, or if only one of them has it."""
    other = answer("b", {"thought": True}, {"index": 0}, modelVersion="n", responseId="s")
    assert is_unchanged(GEMINI, answer("a", part, candidate, **top), other)


@pytest.mark.parametrize(
    ("part", "candidate", "top"),
    [
        ({"thoughtSignature": "x"}, {}, {}),
        ({"functionCall": {"name": "f"}}, {}, {}),
        ({"inlineData": {"data": "x"}}, {}, {}),
        ({"executableCode": {"code": "x"}}, {}, {}),
        ({}, {"finishReason": "STOP"}, {}),
        ({}, {"groundingMetadata": {"x": 1}}, {}),
        ({}, {"citationMetadata": {"x": 1}}, {}),
        ({}, {"safetyRatings": [{}]}, {}),
        ({}, {"content": {"parts": [{"text": "a"}], "new": 1}}, {}),
        ({}, {"content": {"parts": [{"text": "a"}, {"text": "b"}]}}, {}),
        ({}, {}, {"promptFeedback": {"x": 1}}),
        ({}, {}, {"new": 1}),
        ({}, {}, {"candidates": [{"content": {"parts": [{"text": "a"}]}}] * 2}),
    ],
    ids=str,
)
def test_gemini_answers_with_more_than_text_are_left(part: Any, candidate: Any, top: Any) -> None:
    """An answer with more than text is not merged, because the app gets each answer."""
    assert is_unchanged(GEMINI, *[answer("a", part, candidate, **top)] * 2)


@pytest.mark.parametrize(
    "opener",
    [
        {"candidates": []},
        {"usageMetadata": {}, "responseId": "r"},
        {"usageMetadata": {}, "modelVersion": "m"},
    ],
    ids=str,
)
def test_gemini_is_known_by_what_it_says(opener: Any) -> None:
    """The format is detected by candidates, or by usage with an id or a model."""
    assert merged(GEMINI, answer("a"), answer("b"), opener=sse(opener)) == answer("ab")


def test_gemini_is_not_known_by_its_usage_alone() -> None:
    """Usage alone does not show the format, because other formats may have such a member."""
    merger = Merger([GEMINI])
    merger.add(sse({"usageMetadata": {}}))
    assert merger.mode is Mode.DETECTING


def test_a_gemini_error_is_left() -> None:
    """An error passes through unchanged."""
    error = sse({"error": {"code": 500}}, end="\r\n")
    assert merged(GEMINI, answer("a"), answer("b"), error) == answer("ab") + error


# Cohere.


def delta(message: Mapping[str, Any], kind: str = "content-delta", **more: Any) -> bytes:
    return typed({"type": kind, "index": 0, "delta": {"message": message}, **more})


COHERE_DELTAS = [
    ("content-delta", lambda text: {"content": {"text": text}}),
    ("content-delta", lambda text: {"content": {"thinking": text}}),
    ("tool-plan-delta", lambda text: {"tool_plan": text}),
    ("tool-call-delta", lambda text: {"tool_calls": {"function": {"arguments": text}}}),
]


@pytest.mark.parametrize(("kind", "message"), COHERE_DELTAS)
def test_cohere_deltas_are_merged(kind: str, message: Any) -> None:
    """Text, thoughts, plans and arguments are merged, but not across indexes or with logprobs."""
    a, b, ab = (delta(message(text), kind) for text in ("a", "b", "ab"))
    assert merged(COHERE, a, b) == ab
    assert is_unchanged(COHERE, a, delta(message("b"), kind, index=1))
    assert is_unchanged(COHERE, *[delta(message("a"), kind, logprobs={"token_ids": [1]})] * 2)
    assert is_unchanged(COHERE, *[delta(message("a"), "another-delta")] * 2)
    assert is_unchanged(COHERE, delta(message("<think>"), kind), b) is (kind != "tool-call-delta")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("content-delta", {"content": {"text": "a", "thinking": "b"}}),
        ("content-delta", {"content": {"text": "a", "new": 1}}),
        ("tool-plan-delta", {"tool_plan": "a", "new": 1}),
        ("tool-call-delta", {"tool_calls": {"function": {"arguments": "a", "name": "f"}}}),
        ("content-start", {"content": {"text": "a"}}),
    ],
    ids=str,
)
def test_cohere_events_with_more_are_left(kind: str, message: Mapping[str, Any]) -> None:
    """An event with two texts, an opener, and an event with unknown members are not merged."""
    assert is_unchanged(COHERE, *[delta(message, kind)] * 2)


# Ollama.


def said(fields: Mapping[str, Any], time: str = "t1", **more: Any) -> bytes:
    return line({"model": "m", "created_at": time, **fields, "done": False, **more})


def chat(content: str, **message: Any) -> Mapping[str, Any]:
    return {"message": {"role": "assistant", "content": content, **message}}


def thinking(text: str) -> Mapping[str, Any]:
    return {"message": {"role": "assistant", "content": "", "thinking": text}}


@pytest.mark.parametrize(
    "fields",
    [
        chat,
        thinking,
        lambda text: {"response": text},
        lambda text: {"response": "", "thinking": text},
    ],
    ids=["chat", "chat-thinking", "generate", "generate-thinking"],
)
def test_ollama_lines_are_merged(fields: Any) -> None:
    """Lines are merged, with the last time, but not across models, and not the last line."""
    assert merged(OLLAMA, said(fields("a")), said(fields("b"), "t2")) == said(fields("ab"), "t2")
    assert is_unchanged(OLLAMA, said(fields("a")), said(fields("b"), model="n"))
    assert is_unchanged(OLLAMA, *[said(fields("a"), done=True)] * 2)
    assert is_unchanged(OLLAMA, *[said(fields("a"), new="x")] * 2)
    assert is_unchanged(OLLAMA, said(fields(" ")), said(fields("a")))


@pytest.mark.parametrize(
    "fields",
    [
        chat("a", tool_calls=[{"function": {"name": "f", "arguments": {}}}]),
        chat("a", images=["x"]),
        chat("a", tool_name="f"),
        chat("a", thinking="b"),
        {"response": "a", "thinking": "b"},
        {"response": "a", "context": [1]},
        {"response": "a", "eval_count": 0},
        {"response": "a", "error": "x"},
        {"response": "a", **chat("a")},
    ],
    ids=str,
)
def test_ollama_lines_with_more_are_left(fields: Mapping[str, Any]) -> None:
    """A line with a call, an image, a metric or two texts is not merged."""
    assert is_unchanged(OLLAMA, *[said(fields)] * 2)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_ollama_lines_end_as_they_came(end: bytes) -> None:
    """Lines keep their line ends. A line that is no delta keeps its place between them."""
    a, b, ab = (said(chat(text)).replace(b"\n", end) for text in ("a", "b", "ab"))
    assert merged(OLLAMA, a, b) == ab
    for other in (b"\n", b"\r\n", b'{"error":"x"}\n', b"{\n", b"null\n"):
        assert merged(OLLAMA, a, b, other, a, b) == ab + other + ab


def test_ollama_logprobs_are_joined() -> None:
    """The lists of logprobs are joined."""
    lines = [said(chat("a"), logprobs=[{"x": 1}]), said(chat("b"), logprobs=[{"x": 2}])]
    assert merged(OLLAMA, *lines) == said(chat("ab"), logprobs=[{"x": 1}, {"x": 2}])


def test_ollama_roles_have_to_be_equal() -> None:
    """Lines with different roles are not merged."""
    assert is_unchanged(OLLAMA, said(chat("a", role="x")), said(chat("b", role="y")))
