"""The fixtures and the generated streams have what the other tests need."""

# ruff: noqa: RUF001 (the fixtures have dashes and quotes of every kind)

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import Phase, find, given, settings, strategies as st

from tests.merging.generators import FORMATS, cuts, streams, uncut
from tests.merging.reference import (
    Event,
    Other,
    Text,
    accumulate,
    delta_texts,
    lone_tags,
    segments,
)

pytestmark = pytest.mark.slow

DIRECTORY: Final = Path(__file__).parent / "fixtures"


class Fixture(NamedTuple):
    file: str
    format: str
    deltas: int
    """The number of its deltas."""
    texts: list[str]
    """The texts of the runs of deltas, without a delta that is the first event."""


OOLONG: Final = "Oolong (乌龙)\n\t- half-oxidised 🍃."
SENCHA: Final = "Sencha (煎茶) — a green 🍵.\nGieß it."
SUMMARY: Final = '**Choosing a tea**\n\nWas it "Sencha"?'
FIXTURES: Final = [
    Fixture(
        "openai_chat.sse",
        "openai_chat",
        30,
        [
            'The reader wants a "short" answer.\n',
            'Grüntee – 緑茶 🍵:\n\n80\xa0°C, "two" minutes.',
            "",  # the start of the second choice
            "I’m sorry, no.",
            '{"litres": 1}',
            '{"text":"tea \\u2615 \\"hot\\""}',
        ],
    ),
    Fixture(
        "openai_chat_groq.sse",
        "openai_chat",
        22,
        ['Is 3 < 4? "Yes" & so on.\n', "<think>\nWeighing it\n</think>\n\nJa: 3 < 4 🙂 ✓."],
    ),
    Fixture(
        "openai_chat_openrouter.sse",
        "openai_chat",
        14,
        ['Then water, "hot".', "Pour über the", " leaves.\n• wait 🕒 茶\\o/"],
    ),
    Fixture(
        "openai_chat_deepseek.sse", "openai_chat", 22, ['Hmm, 乌龙 or "黑茶"?\n\nOolong.', OOLONG]
    ),
    Fixture(
        "openai_chat_mistral.sse",
        "openai_chat",
        19,
        ["", 'Okay, the "reader" likes\nthé 🫖', ".", "Bien sûr :\ndu thé à la 薄荷"],
    ),
    Fixture(
        "openai_chat_vllm.sse",
        "openai_chat",
        15,
        ['Water boils at 100°C 🧊→🔥.\n"Höher" oben 気圧 low.'],
    ),
    Fixture(
        "openai_chat_ollama.sse",
        "openai_chat",
        15,
        [", <tea> again.\n", 'Rooibos \u2028is \'n "kruietee" 🇿🇦 né.'],
    ),
    Fixture(
        "openai_chat_own.sse",
        "openai_chat",
        14,
        ['Eine "Kanne" für 2,\r\nbitte 🙏 / 谢谢\b\f {"a": [1]} data: x end'],
    ),
    Fixture(
        "openai_responses.sse",
        "openai_responses",
        25,
        [SUMMARY, SENCHA, '{"note":"heiß \\u2615"}'],
    ),
    Fixture("openai_responses_bedrock.sse", "openai_responses", 20, [SUMMARY, SENCHA]),
    Fixture(
        "anthropic.sse",
        "anthropic",
        25,
        [
            'Which leaf is "white"?\n白毫 …',
            'White tea:\n\n* "Bai Hao" (白毫)',
            "\n* café-free 🤍 – naïve C:\\tea.",
            '{"litres": 1, "note": "warm \\u00fcber Nacht"}',
        ],
    ),
    Fixture(
        "ag_ui.sse",
        "ag_ui",
        21,
        [
            'Cups "first",\ndann tea 🤔.',
            "I warm the Tässchen ☕",
            "\nZwei 杯.",
            '{"litres": 1, "for": "Zoë"}',
        ],
    ),
    Fixture(
        "vercel_ui.sse",
        "vercel_ui",
        21,
        [
            'Cold "brew"?\nNaja 🧊.',
            "Steep it über night",
            ",\nin the “fridge” 冷. \\ ok",
            '{"hours":8,"text":"Tee fertig!"}',
        ],
    ),
    Fixture(
        "gemini.sse",
        "gemini",
        15,
        [
            'Two "spoons" or drei? <5 g.\n',
            'Take 2 Teelöffel of "Assam",\n<b>boil</b> 湯 and pour… 🫖 slowly \n\n1. wait\n2. sip',
            ".",
        ],
    ),
    Fixture(
        "cohere.sse",
        "cohere",
        24,
        [
            'I will "look" up Tee.\n',
            '{\n    "litres": 1\n}',
            'Darjeeling is from "India".',
            "Darjeeling – दार्जिलिंग, 🇮🇳",
            "\nhöher \\ better.",
        ],
    ),
    Fixture(
        "ollama.ndjson",
        "ollama",
        19,
        [' or "bag"?\nLose > bag.', "Loose leaf, natürlich.\n\n\u2028Ein 茶壺 🫖 C:\\<3."],
    ),
    Fixture(
        "plain_text.sse",
        "plain_text",
        20,
        [
            " is ready, Zoë.\n",
            "Ein grüner Tee",
            "cup of 茶 🍵",
            'a literal \\n \\" \\u00e9 \\ud83c\\udf75 staysfirst line\nsecond line\nthird',
            " after the retry",
            " on",
            "off",
        ],
    ),
]
BY_FILE: Final = pytest.mark.parametrize(
    "fixture", [pytest.param(fixture, id=fixture.file) for fixture in FIXTURES]
)


def read(fixture: Fixture) -> bytes:
    return DIRECTORY.joinpath(fixture.file).read_bytes()


def test_every_fixture_is_tested_and_every_format_has_one() -> None:
    """Every file is in the list above, and every format has a fixture."""
    files = {path.name for path in DIRECTORY.iterdir()} - {"README.md"}
    assert {fixture.file for fixture in FIXTURES} == files
    assert {fixture.format for fixture in FIXTURES} == set(FORMATS)


@BY_FILE
def test_fixture_has_the_deltas_it_claims(fixture: Fixture) -> None:
    """A fixture has the listed number of deltas and the listed runs of text."""
    body = read(fixture)
    assert len(delta_texts(fixture.format, body)) == fixture.deltas
    assert segments(fixture.format, body) == fixture.texts


@BY_FILE
def test_fixture_is_a_whole_stream_of_json(fixture: Fixture) -> None:
    """Every event has JSON data, and the last event is complete."""
    items = accumulate(fixture.format, read(fixture))
    assert not [item for item in items if isinstance(item, Other) and item.kind == "unfinished"]
    data = [item.data for item in items if isinstance(item, Event) and item.data != "[DONE]"]
    if fixture.format != "plain_text":
        assert all(isinstance(json.loads(text), dict) for text in data)


@BY_FILE
@pytest.mark.parametrize(
    "what",
    [
        rb"[\xc2-\xf4][\x80-\xbf]",
        rb"\\n",
        rb'\\"',
        rb"\\u00|\\u20|\\u26",
        rb"\\u[dD]8..\\u[dD][c-fC-F]",
    ],
    ids=["UTF-8", "line feed", "quote", "escape", "surrogate pair"],
)
def test_fixture_has_every_kind_of_character(fixture: Fixture, what: bytes) -> None:
    """A fixture has UTF-8, escaped line feeds, quotes, other escapes and surrogate pairs."""
    assert re.search(what, read(fixture))


@pytest.mark.parametrize(
    ("file", "habit"),
    [
        ("openai_chat.sse", b'"logprobs":{"content":null,"refusal":[{'),
        ("openai_chat_groq.sse", b'"channel":"analysis"},"logprobs":null'),
        ("openai_chat_openrouter.sse", b": OPENROUTER PROCESSING\n\n"),
        ("openai_chat_deepseek.sse", b'"delta":{"content":null,"reasoning_content":"'),
        ("openai_chat_mistral.sse", b'"content":[{"type":"thinking","thinking":[{"type":"text"'),
        ("openai_chat_vllm.sse", b'"token_ids":[100]}],"usage":null}\n\n'),
        ("openai_chat_ollama.sse", b'"delta":{"role":"assistant","content":"","reasoning":"'),
        ("openai_chat_own.sse", b'\r\n\r\ndata:{"model" : "own", "choices"'),
        ("openai_responses.sse", b'"logprobs":[],"obfuscation":"'),
        ("openai_responses_bedrock.sse", b'"}\nevent: response.output_text.delta\n\n'),
        ("anthropic.sse", b"    }\n\nevent: content_block_delta\n"),
        ("ag_ui.sse", b'data: {"type":"STATE_DELTA","timestamp":17'),
        ("vercel_ui.sse", b'data: {"type":"data-progress"'),
        ("gemini.sse", b'\r\n\r\ndata: {"candidates": [{"content": {"parts": [{"text": "'),
        ("cohere.sse", b"event: tool-plan-delta\n"),
        ("ollama.ndjson", b'"done_reason":"stop","done":true,"total_duration":'),
        ("plain_text.sse", b"data: first line\ndata: second line\n\n"),
    ],
)
def test_fixture_has_the_habits_of_its_server(file: str, habit: bytes) -> None:
    """A fixture has bytes that are typical of its server."""
    assert habit in DIRECTORY.joinpath(file).read_bytes()


def test_tags_on_their_own_are_found() -> None:
    """`lone_tags` finds deltas that consist of a tag: some clients look for them."""
    body = DIRECTORY.joinpath("openai_chat_groq.sse").read_bytes()
    assert lone_tags("openai_chat", body) == ["<think>", "</think>"]


@pytest.mark.parametrize("format", FORMATS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_generated_streams_are_understood(format: str, data: Any) -> None:
    """Generated events are complete and in the format, and runs have the text of their deltas."""
    events = data.draw(streams(format))
    body = b"".join(events)
    items = accumulate(format, body)
    assert not [item for item in items if isinstance(item, Other) and item.kind == "unfinished"]
    if format != "plain_text":
        texts = [item.data for item in items if isinstance(item, Event) and item.data != "[DONE]"]
        assert all(isinstance(json.loads(text), dict) for text in texts)
    runs, deltas = "".join(segments(format, body)), "".join(delta_texts(format, body))
    assert units(deltas).endswith(units(runs))


def units(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("what", ["a run", "two keys in turns", "a character in two halves"])
def test_generated_streams_have_what_a_merge_can_get_wrong(format: str, what: str) -> None:
    """The generators make runs to merge, alternating keys, and a surrogate pair in two events."""
    if format == "plain_text" and what == "a character in two halves":
        return  # plain text has no escapes

    def has_it(events: list[bytes]) -> bool:
        body = b"".join(events)
        runs = [item for item in accumulate(format, body) if isinstance(item, Text)]
        if what == "a run":
            return len(delta_texts(format, body)) > len(runs) + 2
        if what == "two keys in turns":
            keys = [(run.name, run.around) for run in runs if run.text]
            return len(keys) > len(set(keys)) > 1
        halves = [text[-1:] for text in delta_texts(format, body)]
        return any("\ud800" <= half < "\udc00" for half in halves) and any(
            "\ud83c\udf75" in run.text for run in runs
        )

    search = settings(
        database=None, derandomize=True, max_examples=1000, phases=[Phase.generate], deadline=None
    )
    find(streams(format), has_it, settings=search)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_chunks_are_the_body_cut(data: Any) -> None:
    """`cuts` and `uncut` lose nothing, and `uncut` does not cut an event."""
    events = data.draw(streams("gemini"))
    body = b"".join(events)
    chunks = data.draw(cuts(body))
    assert b"".join(chunks) == body
    assert all(chunks)
    groups = data.draw(uncut(events))
    assert b"".join(groups) == body
    assert all(group.endswith(b"\n") for group in groups)
