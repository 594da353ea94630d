"""The client stays, and reads nothing any more."""

from __future__ import annotations

import pytest

from sse_batching import CancelReason
from tests.servers.matrix.expected import AT_THE_END, stalled
from tests.servers.matrix.kinds import KINDS, params
from tests.servers.matrix.phases import Phase, Then, content, seen_first
from tests.servers.matrix.process import Server
from tests.servers.matrix.table import STALLING, Cell

CELLS = params((kind, phase) for kind in KINDS for phase in Phase)


@pytest.mark.parametrize(("server", "phase"), CELLS, indirect=["server"], scope="session")
def test_client_that_stops_reading(server: Server, phase: Phase, cell: Cell) -> None:
    """Where the server holds up the app, the token is cancelled and the app ends; elsewhere the app
    gets rid of all it has to say. Then the client closes, and nothing is left behind."""
    name = server.new_name()
    with server.connect() as client:
        client.ask(f"/{phase}/{Then.FLOOD}/{name}")
        if phase is not Phase.AFTER_END:
            client.read(seen_first(phase))
        server.expect_a_clean_end(name)
        client.drain()
        assert content(phase, Then.FLOOD).startswith(client.body)
    assert server.left_behind() == []
    assert server.tracebacks() == []
    cancelled = server.cancellations(name)
    all_sent = bool(server.told(name, "all sent"))
    late = all_sent and cancelled == [CancelReason.SEND_TIMEOUT]
    found = cell.put(STALLING, server, phase.words, AT_THE_END if late else cancelled)
    assert found == stalled(server.kind, phase)
