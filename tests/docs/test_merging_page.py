"""docs/merging.md: what it says of figures, formats and code is true."""

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


def test_the_table_is_what_was_found() -> None:
    """As `python -m benchmarks.merging --write` puts it there: no figure is written by hand."""
    found = place("merging").search(TEXT)

    assert found is not None
    assert found[0] == f"{found[1]}\n{table(json.loads(FOUND.read_text()))}\n{found[2]}"


async def nothing(emit: Emit) -> None:
    """What an app may stream as well."""


def test_its_code_runs() -> None:
    """As it stands there, one after the other; and what it defines merges."""
    defined: dict[str, object] = {"app": streaming(nothing)}
    for block in CODE:
        exec(compile(block, "docs/merging.md", "exec"), defined)

    merger = Merger([defined["acme"]])  # type: ignore[list-item]
    event = b'data: {"object":"acme.chunk","delta":{"text":"%d"},"number":%d}\n\n'
    for number in range(4):
        merger.add(event % (number, number))
    assert merger.take() == event % (0, 0) + event.replace(b"%d", b"123", 1) % 3


def test_every_format_is_on_it() -> None:
    """Each that users can name has its row."""
    rows = set(re.findall(r"^\| `(\w+)", TEXT, re.MULTILINE))
    assert rows == set(formats.__all__) - {"Format", "auto"}
