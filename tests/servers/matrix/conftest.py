"""One server for all cells of its kind, and the tables that a run fills."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.servers.matrix.kinds import Kind
from tests.servers.matrix.process import Server, running
from tests.servers.matrix.table import Cell, Tables

HERE: Final = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore this folder unless the command line names it, as `make test-servers` does.

    It takes too long for `make test`.
    """
    named = [(config.invocation_params.dir / arg.split("::")[0]).resolve() for arg in config.args]
    return None if any(path.is_relative_to(HERE) for path in named) else True


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-tables",
        action="store_true",
        help="write the tables of this run into docs/servers.md",
    )


@pytest.fixture(scope="session")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Return the server of this kind. All tests share it that do not shut it down."""
    kind: Kind = request.param
    with running(kind, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def cell(record_property: object) -> Cell:
    """Return the object with which a test fills a cell of the tables."""
    assert callable(record_property)
    return Cell(record_property)


@pytest.hookimpl
def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # not in a worker of xdist
        config.pluginmanager.register(Tables(config), "tables of the servers")
