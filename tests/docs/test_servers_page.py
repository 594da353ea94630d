"""docs/servers.md shows what `make test-servers` expects. That run shows whether it is true."""

from __future__ import annotations

import pytest

from tests.servers.matrix.expected import left, never_awaits, pipelined, shut_down, stalled
from tests.servers.matrix.kinds import HTTP1_KINDS, KINDS
from tests.servers.matrix.phases import Phase
from tests.servers.matrix.table import (
    COLUMNS,
    LEAVING,
    NEVER_AWAITS,
    OTHER,
    PAGE,
    PIPELINED,
    SHUTDOWN,
    SHUTDOWN_COLUMNS,
    STALLING,
    Found,
    all_places,
    render,
)
from tests.servers.matrix.ways import ways_of


def expected() -> Found:
    """Return what a run is expected to find in each cell."""
    found: Found = {}
    for kind in KINDS:
        name = str(kind)
        for phase in Phase:
            ways = {way.title: left(kind, way, phase) for way in ways_of(kind)}
            found[LEAVING, name, phase.column] = ways
            found[STALLING, name, phase.column] = {"": stalled(kind, phase)}
        if kind in HTTP1_KINDS:
            found[OTHER, name, PIPELINED] = {"": pipelined(kind)}
        found[OTHER, name, NEVER_AWAITS] = {"": never_awaits(kind)}
        for limited in (False, True) if kind.limit else (False,):
            column = SHUTDOWN_COLUMNS[limited]
            found[SHUTDOWN, name, column] = {"": shut_down(kind, limited=limited).value}
    return found


def test_every_cell_has_an_expectation() -> None:
    """The expectations cover each server, way of leaving and phase of the page."""
    assert set(expected()) == set(all_places())


@pytest.mark.parametrize("table", COLUMNS)
def test_the_page_shows_what_the_run_expects(table: str) -> None:
    """A table cannot be changed without a change of the expectations, nor a row be removed."""
    assert render(table, expected()) in PAGE.read_text()
