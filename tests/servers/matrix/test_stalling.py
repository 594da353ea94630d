"""The client stays connected, and stops reading."""

from __future__ import annotations

import pytest

from sse_batching import CancelReason
from tests.servers.matrix.expected import AT_THE_END, stalled
from tests.servers.matrix.kinds import KINDS, params
from tests.servers.matrix.phases import Action, Phase, size_before, whole_body
from tests.servers.matrix.process import Server
from tests.servers.matrix.table import STALLING, Cell

CELLS = params((kind, phase) for kind in KINDS for phase in Phase)


@pytest.mark.parametrize(("server", "phase"), CELLS, indirect=["server"], scope="session")
def test_request_of_a_client_that_stops_reading_ends_cleanly(
    server: Server, phase: Phase, cell: Cell
) -> None:
    """If the server makes the app wait, the token is cancelled and the app ends; if not, the app
    sends everything. Nothing is left behind when the client has closed."""
    name = server.new_name()
    with server.connect() as client:
        client.ask(f"/{phase}/{Action.FLOOD}/{name}")
        if phase is not Phase.AFTER_END:
            client.read(size_before(phase))
        server.expect_a_clean_end(name)
        client.drain()
        assert whole_body(phase, Action.FLOOD).startswith(client.body)
    assert server.left_behind() == []
    assert server.tracebacks() == []
    cancelled = server.cancellations(name)
    all_sent = bool(server.records(name, "all sent"))
    late = all_sent and cancelled == [CancelReason.SEND_TIMEOUT]
    found = cell.put(STALLING, server, phase.column, AT_THE_END if late else cancelled)
    assert found == stalled(server.kind, phase)
