"""Recorded streams that no client here reads, in unknown formats or in legacy Completions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.merging.flushing import merged_each_way, recorded

pytestmark = pytest.mark.slow


def texts(body: bytes) -> list[str]:
    """Return the texts of legacy Completions in an event stream, by the number of the choice."""
    found: dict[int, str] = {}
    for line in body.splitlines():
        data = line.removeprefix(b"data: ")
        if data.startswith(b"{"):
            for choice in json.loads(data)["choices"]:
                index = choice["index"]
                found[index] = found.get(index, "") + choice["text"]
    return [found[index] for index in sorted(found)]


@pytest.mark.parametrize(("_", "path"), recorded("other"))
def test_a_stream_of_no_known_format_is_untouched(_: str, path: Path) -> None:
    """Streams in unknown formats are unchanged. Legacy Completions keep their text."""
    body = path.read_bytes()
    for merged in merged_each_way(body, lines=False, seed=path.name):
        if b'"text_completion"' in body:
            assert len(merged) < len(body)
            assert texts(merged) == texts(body)
        else:
            assert merged == body


@pytest.mark.parametrize(("_", "path"), recorded("cohere-v1"))
def test_lines_of_no_known_format_are_untouched(_: str, path: Path) -> None:
    """Newline-delimited JSON in an unknown format is unchanged: version 1 of Cohere's chat."""
    body = path.read_bytes()
    for merged in merged_each_way(body, lines=True, seed=path.name):
        assert merged == body
