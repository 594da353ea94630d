"""The server gets SIGTERM while a stream is open."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from sse_batching import CancelReason
from tests.servers.matrix.expected import Shutdown, allowed_after_waiting, shut_down
from tests.servers.matrix.kinds import KINDS, Kind
from tests.servers.matrix.phases import Action, Phase, size_before
from tests.servers.matrix.process import Server, running
from tests.servers.matrix.table import SHUTDOWN, SHUTDOWN_COLUMNS, Cell
from tests.support.servers import PATIENCE

CELLS = [
    pytest.param(kind, limited, id=f"{kind.id}-{'limited' if limited else 'default'}")
    for kind in KINDS
    for limited in (False, True)
    if kind.limit or not limited
]


def wait_until_connections_are_refused(server: Server) -> None:
    """Wait until the server has seen the signal, and accepts no new connection."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", server.port)).close()
        except OSError:
            return
    pytest.fail("the server still listens")


def observe_shutdown(server: Server, name: str, expected: Shutdown) -> Shutdown:
    """Return what the server does with an open stream after SIGTERM."""
    if expected is Shutdown.WAITED_FOR:
        wait_until_connections_are_refused(server)
        assert server.cancellations(name) == []
        return expected
    server.wait()
    cancelled = server.cancellations(name)
    if cancelled == [CancelReason.SERVER_SHUTDOWN]:
        return Shutdown.CANCELLED if server.records(name, "reported") else Shutdown.NOT_REPORTED
    assert cancelled == []
    assert server.records(name, "closed") == []
    return Shutdown.KILLED


@pytest.mark.parametrize(("kind", "limited"), CELLS)
def test_shutdown_has_the_expected_effect_on_a_stream(
    kind: Kind, limited: bool, tmp_path: Path, cell: Cell
) -> None:
    """The token is cancelled if the server cancels the stream, and not if the server waits for the
    stream or kills the process. uvicorn ends before `on_close` is called."""
    expected = shut_down(kind, limited=limited)
    with running(kind, tmp_path, limited=limited) as server:
        name = server.new_name()
        with server.connect() as client:
            client.ask(f"/{Phase.BETWEEN_EVENTS}/{Action.WAIT}/{name}")
            client.read(size_before(Phase.BETWEEN_EVENTS))
            server.wait_until(name, "reached")
            server.terminate()
            found = observe_shutdown(server, name, expected)
        if found is Shutdown.WAITED_FOR:
            server.wait()
            assert server.cancellations(name) in allowed_after_waiting(kind)
    cell.put(SHUTDOWN, server, SHUTDOWN_COLUMNS[limited], found.value)
    assert found is expected
