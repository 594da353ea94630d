"""The tables of docs/servers.md, made of what a run has found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import pytest

from sse_batching import CancelReason
from tests.servers.matrix.expected import NOTHING, WORDS
from tests.servers.matrix.kinds import HTTP1_KINDS, KINDS, versions
from tests.servers.matrix.phases import Phase
from tests.servers.matrix.process import Server
from tests.support.servers import REPOSITORY

PAGE: Final = REPOSITORY / "docs" / "servers.md"

LEAVING: Final = "leaving"
STALLING: Final = "stalling"
OTHER: Final = "other"
SHUTDOWN: Final = "shutdown"

PIPELINED: Final = "behind a pipelined request"
NEVER_AWAITS: Final = "from an app that never awaits"
SHUTDOWN_COLUMNS: Final = ("without the option", "with the option")

COLUMNS: Final[Mapping[str, Sequence[str]]] = {
    LEAVING: [phase.column for phase in Phase],
    STALLING: [phase.column for phase in Phase],
    OTHER: [PIPELINED, NEVER_AWAITS],
    SHUTDOWN: SHUTDOWN_COLUMNS,
}
UNTESTED: Final = "·"
"""The text of a cell without a test. HTTP/2 has no pipelining, and daphne no time limit."""
UNTESTED_PLACES: Final = {
    *((OTHER, str(kind), PIPELINED) for kind in KINDS if kind not in HTTP1_KINDS),
    *((SHUTDOWN, str(kind), SHUTDOWN_COLUMNS[1]) for kind in KINDS if not kind.limit),
}

Place: TypeAlias = tuple[str, str, str]
"""Table, server and column of a cell."""
Found: TypeAlias = dict[Place, dict[str, str]]
"""The text of each cell, for each way of leaving that was tested there."""

CELL: Final = "cell of the tables"


class Cell:
    """Sends what a test has found to the process that makes the tables."""

    def __init__(self, record: Callable[[str, object], None]) -> None:
        self._record = record

    def put(
        self,
        table: str,
        server: Server,
        column: str,
        found: Sequence[CancelReason] | str,
        *,
        way: str = "",
    ) -> str:
        """Put into the table why the token was cancelled each time, or another text.

        Return the text that the cell gets.
        """
        if not isinstance(found, str):
            found = " and ".join(WORDS[reason] for reason in found) or NOTHING
        self._record(CELL, [table, str(server.kind), column, way, found])
        return found


def all_places() -> list[Place]:
    """Return each cell that a complete run fills."""
    return [
        (table, str(kind), column)
        for table, columns in COLUMNS.items()
        for kind in KINDS
        for column in columns
        if (table, str(kind), column) not in UNTESTED_PLACES
    ]


def render(table: str, found: Found) -> str:
    """Return one table, in Markdown."""
    rows = [["server", *COLUMNS[table]], ["---"] * (len(COLUMNS[table]) + 1)]
    for kind in KINDS:
        cells = [found.get((table, str(kind), column), {}) for column in COLUMNS[table]]
        rows.append([str(kind), *map(_cell_text, cells)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell_text(ways: Mapping[str, str]) -> str:
    """Return the text of one cell: what most ways of leaving have, and then the exceptions."""
    if not ways:
        return UNTESTED
    most, _ = Counter(ways.values()).most_common(1)[0]
    others = [f"{way}: {words}" for way, words in ways.items() if words != most]
    return "; ".join([most, *others])


def replace_section(page: str, name: str, text: str) -> str:
    """Return the page with this text between the two comments of that name."""
    marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    assert marked.search(page), f"docs/servers.md has no place for {name!r}"
    return marked.sub(lambda match: f"{match[1]}\n{text}\n{match[2]}", page)


class Tables:
    """Collects what all processes of a run have found, and compares it with the page."""

    def __init__(self, config: pytest.Config) -> None:
        self._writes: bool = config.getoption("--write-tables", default=False)
        self._found: Found = {}
        self._verdict = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties if report.when == "call" else ():
            if name == CELL and isinstance(value, list):
                table, kind, column, way, words = value
                self._found.setdefault((table, kind, column), {})[way] = words

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if missing := set(all_places()) - self._found.keys():
            self._verdict = f"not compared: {len(missing)} cells were not run"
            return
        page = PAGE.read_text()
        for table in COLUMNS:
            page = replace_section(page, table, render(table, self._found))
        page = replace_section(page, "versions", f"{versions()}.\n")
        if page == PAGE.read_text():
            self._verdict = "up to date"
        elif self._writes:
            PAGE.write_text(page)
            self._verdict = "written"
        else:
            self._verdict = "out of date: run with --write-tables, and look at the changes"
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"docs/servers.md: the tables are {self._verdict}")
