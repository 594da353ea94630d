"""The server gets SIGTERM while a stream is open."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from sse_batching import CancelReason
from tests.servers.matrix.expected import Shutdown, after_the_wait, shut_down
from tests.servers.matrix.kinds import KINDS, Kind
from tests.servers.matrix.phases import Phase, Then, seen_first
from tests.servers.matrix.process import Server, running
from tests.servers.matrix.table import SHUTDOWN, SHUTDOWN_COLUMNS, Cell
from tests.support.servers import PATIENCE

CELLS = [
    pytest.param(kind, limited, id=f"{kind.id}-{'limited' if limited else 'default'}")
    for kind in KINDS
    for limited in (False, True)
    if kind.limit or not limited
]


def wait_until_it_refuses(server: Server) -> None:
    """It has seen the signal: it takes no connection any more."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", server.port)).close()
        except OSError:
            return
    pytest.fail("the server still listens")


def what_becomes_of_the_stream(server: Server, name: str, expected: Shutdown) -> Shutdown:
    """What is told of it until the process has ended; it is open, and SIGTERM is sent."""
    if expected is Shutdown.WAITED_FOR:
        wait_until_it_refuses(server)
        assert server.cancellations(name) == []
        return expected
    server.wait()
    cancelled = server.cancellations(name)
    if cancelled == [CancelReason.SERVER_SHUTDOWN]:
        return Shutdown.CANCELLED
    assert cancelled == []
    assert server.told(name, "closed") == []
    return Shutdown.KILLED


@pytest.mark.parametrize(("kind", "limited"), CELLS)
def test_server_that_is_shut_down(kind: Kind, limited: bool, tmp_path: Path, cell: Cell) -> None:
    """Where the server cancels the stream the token says so; where it waits, nothing is told."""
    expected = shut_down(kind, limited=limited)
    with running(kind, tmp_path, limited=limited) as server:
        name = server.new_name()
        with server.connect() as client:
            client.ask(f"/{Phase.BETWEEN_EVENTS}/{Then.WAIT}/{name}")
            client.read(seen_first(Phase.BETWEEN_EVENTS))
            server.wait_until(name, "there")
            server.terminate()
            found = what_becomes_of_the_stream(server, name, expected)
        if found is Shutdown.WAITED_FOR:
            server.wait()
            assert server.cancellations(name) in after_the_wait(kind)
    cell.put(SHUTDOWN, server, SHUTDOWN_COLUMNS[limited], found.value)
    assert found is expected
