"""docs/merging.md is right about figures, formats and code."""

from __future__ import annotations

import json
import re
from typing import Final

from benchmarks.merging import FOUND, PAGE, table
from benchmarks.report import place
from sse_batching import formats
from sse_batching._merging import Merger
from tests.support.apps import Emit, streaming

TEXT: Final = PAGE.read_text()
CODE: Final = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_table_shows_the_measured_figures() -> None:
    """`python -m benchmarks.merging --write` writes the table. No figure is written by hand."""
    found = place("merging").search(TEXT)

    assert found is not None
    assert found[0] == f"{found[1]}\n{table(json.loads(FOUND.read_text()))}\n{found[2]}"


async def nothing(emit: Emit) -> None:
    """Stream nothing."""


def test_the_code_of_the_page_runs() -> None:
    """The blocks run one after the other, and the format that they define merges."""
    defined: dict[str, object] = {"app": streaming(nothing)}
    for block in CODE:
        exec(compile(block, "docs/merging.md", "exec"), defined)

    merger = Merger([defined["acme"]])  # type: ignore[list-item]
    event = b'data: {"object":"acme.chunk","delta":{"text":"%d"},"number":%d}\n\n'
    for number in range(4):
        merger.add(event % (number, number))
    assert merger.take() == event % (0, 0) + event.replace(b"%d", b"123", 1) % 3


def test_every_format_has_a_row() -> None:
    """Each format that users can name has a row in the table of the page."""
    rows = set(re.findall(r"^\| `(\w+)", TEXT, re.MULTILINE))
    assert rows == set(formats.__all__) - {"Format", "auto"}
