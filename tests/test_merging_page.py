"""docs/merging.md says what the last run of `python -m benchmarks.merging` has found."""

from __future__ import annotations

import json

from benchmarks.merging import FOUND, PAGE, PLACE, table


def test_the_table_is_what_was_found() -> None:
    """As `python -m benchmarks.merging --write` puts it there: no figure is written by hand."""
    place = PLACE.search(PAGE.read_text())

    assert place is not None
    assert place[0] == f"{place[1]}\n{table(json.loads(FOUND.read_text()))}\n{place[2]}"
