"""An app that sends without end, and never awaits anything but the middleware's `send`."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import h11
import pytest

from sse_batching import CancelReason
from tests.servers.matrix.expected import LEFT_OR_FAILED, never_awaits
from tests.servers.matrix.kinds import KINDS, params
from tests.servers.matrix.process import Server
from tests.servers.matrix.table import NEVER_AWAITS, OTHER, Cell
from tests.servers.matrix.ways import Connection


def read_until_closed(client: Connection) -> None:
    with suppress(OSError, h11.RemoteProtocolError):  # until the connection is closed
        client.read_to_the_end()


@pytest.mark.parametrize("server", params(KINDS), indirect=True, scope="session")
def test_app_that_never_awaits_blocks_no_other_request(server: Server, cell: Cell) -> None:
    """Another request is answered meanwhile, and the app's own client is noticed when it leaves."""
    name = server.new_name()
    with server.connect() as client:
        client.ask(f"/never-awaiting/{name}")
        client.read(1)
        reader = threading.Thread(target=read_until_closed, args=[client])
        reader.start()
        assert server.fetch("/health") == b"fine"
        client.connection.shutdown(socket.SHUT_RDWR)  # wakes the reader, too
        reader.join()
    server.expect_a_clean_end(name)
    assert server.left_behind() == []
    assert server.tracebacks() == []
    expected, cancelled = never_awaits(server.kind), server.cancellations(name)
    if expected == LEFT_OR_FAILED:
        assert cancelled in ([CancelReason.CLIENT_DISCONNECTED], [CancelReason.SEND_FAILED])
    text = LEFT_OR_FAILED if expected == LEFT_OR_FAILED else cancelled
    assert cell.put(OTHER, server, NEVER_AWAITS, text) == expected
