"""Recorded streams that no client here reads: of no known format, or of one without a client."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.merging.flushing import merged_each_way, recorded


def texts(body: bytes) -> list[str]:
    """The text of the legacy Completions in an event stream, by the choice's number."""
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
    """Byte for byte, whatever is in it. Legacy Completions say the same in fewer events."""
    body = path.read_bytes()
    for merged in merged_each_way(body, lines=False, seed=path.name):
        if b'"text_completion"' in body:
            assert len(merged) < len(body)
            assert texts(merged) == texts(body)
        else:
            assert merged == body


@pytest.mark.parametrize(("_", "path"), recorded("cohere-v1"))
def test_lines_of_no_known_format_are_untouched(_: str, path: Path) -> None:
    """The older chat of Cohere is such a one."""
    body = path.read_bytes()
    for merged in merged_each_way(body, lines=True, seed=path.name):
        assert merged == body
