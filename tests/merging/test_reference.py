"""The reference gives the same meaning to a right merge, and another meaning to a wrong one."""

from __future__ import annotations

from typing import Final

import pytest

from tests.merging.reference import accumulate


def block(data: str, *more: str) -> bytes:
    return "".join(f"{line}\n" for line in [*more, f"data: {data}", ""]).encode()


def text(delta: str, index: int = 0, **more: int) -> bytes:
    """Return a text delta of Anthropic's."""
    extra = "".join(f',"{key}":{value}' for key, value in more.items())
    inside = f'{{"type":"text_delta","text":"{delta}"}}'
    return block(f'{{"type":"content_block_delta","index":{index},"delta":{inside}{extra}}}')


def chat(delta: str, logprobs: str = "null", more: str = "") -> bytes:
    choice = f'{{"index":0,"delta":{{{delta}}},"logprobs":{logprobs}}}'
    return block(f'{{"object":"chat.completion.chunk","choices":[{choice}]{more}}}')


START: Final = block('{"type":"message_start"}')
HEAD: Final = chat('"role":"assistant"')

RIGHT: Final = {
    "a run becomes one": (
        "anthropic",
        START + text("a") + text("b") + text("c"),
        START + text("abc"),
    ),
    "a run becomes two": (
        "anthropic",
        START + text("a") + text("b"),
        START + text("ab") + text(""),
    ),
    "halves of a character stay apart": (
        "anthropic",
        START + text("a") + text("\\ud83d") + text("\\ude00"),
        START + text("a\\ud83d") + text("\\ude00"),
    ),
    "spaces do not matter": (
        "anthropic",
        START + text("a") + text("b"),
        START + text("ab").replace(b"}\n", b"    }\n").replace(b":", b": "),
    ),
    "logprobs are joined": (
        "openai_chat",
        HEAD + chat('"content":"a"', '{"content":[1]}') + chat('"content":"b"', '{"content":[2]}'),
        HEAD + chat('"content":"ab"', '{"content":[1,2]}'),
    ),
    "the last time counts": (
        "openai_chat",
        HEAD
        + chat('"content":"a"', more=',"created":1')
        + chat('"content":"b"', more=',"created":2'),
        HEAD + chat('"content":"ab"', more=',"created":2'),
    ),
    "the last id counts": (
        "plain_text",
        block("x") + block("a", "id: 1") + block("b", "id: 2"),
        block("x") + block("ab", "id: 2"),
    ),
    "a line of JSON is an event": (
        "ollama",
        b'{"done":false,"response":"x"}\n{"done":false,"response":"a"}\n{"done":false,"response":"b"}\n',
        b'{"done":false,"response":"x"}\n{"done":false,"response":"ab"}\r\n',
    ),
}

WRONG: Final = {
    "halves of a character meet": (
        "anthropic",
        START + text("\\ud83d") + text("\\ude00"),
        START + text("😀"),
    ),
    "across another key": (
        "anthropic",
        START + text("a") + text("x", 1) + text("b"),
        START + text("x", 1) + text("ab"),
    ),
    "two keys in one": ("anthropic", START + text("a") + text("b", 1), START + text("ab", 1)),
    "the first event": ("anthropic", text("a") + text("b"), text("ab")),
    "a field that differs": (
        "anthropic",
        START + text("a", new=1) + text("b", new=2),
        START + text("ab", new=2),
    ),
    "across a comment": (
        "anthropic",
        START + text("a") + b": ping\n\n" + text("b"),
        START + b": ping\n\n" + text("ab"),
    ),
    "across a time to retry after": (
        "plain_text",
        block("x") + block("a", "retry: 5") + block("b"),
        block("x") + block("ab"),
    ),
    "the first id": (
        "plain_text",
        block("x") + block("a", "id: 1") + block("b", "id: 2"),
        block("x") + block("ab", "id: 1"),
    ),
    "an id that goes missing": (
        "plain_text",
        block("x") + block("a", "id: 1") + block("b"),
        block("x") + block("ab"),
    ),
    "another name": (
        "plain_text",
        block("x") + block("a", "event: a") + block("b", "event: b"),
        block("x") + block("ab", "event: b"),
    ),
    "empty data": ("plain_text", block("x") + block("a") + block(""), block("x") + block("a")),
    "lost logprobs": (
        "openai_chat",
        HEAD + chat('"content":"a"', '{"content":[1]}') + chat('"content":"b"', '{"content":[2]}'),
        HEAD + chat('"content":"ab"', '{"content":[2]}'),
    ),
    "a number that the SDK adds up": (
        "openai_chat",
        HEAD + chat('"content":"a","token_id":5') + chat('"content":"b","token_id":5'),
        HEAD + chat('"content":"ab","token_id":5'),
    ),
    "text and thoughts": (
        "openai_chat",
        HEAD + chat('"content":"a"') + chat('"reasoning":"b"'),
        HEAD + chat('"reasoning":"ab"'),
    ),
    "a finish": (
        "openai_chat",
        HEAD + chat('"content":"a"') + block("[DONE]"),
        HEAD + chat('"content":"a"'),
    ),
    "a tail": ("anthropic", START + text("a") + b"data: {", START + text("a")),
    "an escape undone twice": ("anthropic", START + text("\\\\n"), START + text("\\n")),
}


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_merge_means_the_same(case: str) -> None:
    """The meaning does not depend on the number of events that the deltas came in."""
    format, original, merged = RIGHT[case]
    assert accumulate(format, merged) == accumulate(format, original)


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_merge_is_seen(case: str) -> None:
    """Text that is lost, moved or mixed up changes the meaning."""
    format, original, merged = WRONG[case]
    assert accumulate(format, merged) != accumulate(format, original)
