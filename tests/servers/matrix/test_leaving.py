"""The client leaves: each server, each way of leaving, each phase of the response."""

from __future__ import annotations

import time
from typing import Final

import pytest

from tests.servers.matrix.expected import AT_NEXT_WRITE, left, pipelined
from tests.servers.matrix.kinds import HTTP1_KINDS, KINDS, params
from tests.servers.matrix.phases import TICK, Action, Phase, size_before, whole_body
from tests.servers.matrix.process import Server
from tests.servers.matrix.table import LEAVING, OTHER, PIPELINED, Cell
from tests.servers.matrix.ways import HALF_CLOSE, RST_STREAM, Connection, Way, ways_of
from tests.support.servers import PATIENCE

TICKS: Final = 100
"""Events that `max_delay` gathers into some ten writes."""

CELLS = params((kind, way, phase) for kind in KINDS for way in ways_of(kind) for phase in Phase)


def read_another_stream(server: Server, client: Connection) -> None:
    """Read another stream, from its beginning to its end, on the same connection."""
    name = server.new_name()
    client.ask(f"/{Phase.AFTER_END}/{Action.END}/{name}")
    client.read_to_the_end()
    assert client.body == whole_body(Phase.AFTER_END, Action.END)
    server.wait_until(name, "ended")
    assert server.cancellations(name) == []


def read_until_ended(server: Server, client: Connection, name: str) -> None:
    """Read until the request has ended. A client that half-closes still reads."""
    deadline = time.monotonic() + PATIENCE
    while not server.records(name, "ended") and time.monotonic() < deadline:
        client.drain(patience=0.02)
    client.drain()


@pytest.mark.parametrize(("server", "way", "phase"), CELLS, indirect=["server"], scope="session")
def test_request_of_a_client_that_leaves_ends_cleanly(
    server: Server, way: Way, phase: Phase, cell: Cell
) -> None:
    """The token, the generator, the bytes and the connection are as expected, and nothing is left
    behind."""
    name = server.new_name()
    expected = left(server.kind, way, phase)
    sent = whole_body(phase, Action.WAIT)
    with server.connect() as client:
        client.ask(f"/{phase}/{Action.WAIT}/{name}")
        client.read(size_before(phase))
        server.wait_until(name, "reached")
        if phase is Phase.AFTER_END:
            client.read_to_the_end()
            read_another_stream(server, client)
        way.leave(client)
        if phase is Phase.AFTER_END:
            server.fetch(f"/release/{name}")
        if expected == AT_NEXT_WRITE:
            server.fetch(f"/release/{name}")
            sent += TICK * TICKS
        if way is HALF_CLOSE:
            read_until_ended(server, client, name)
        server.expect_a_clean_end(name)
        if way is RST_STREAM:
            client.drain()
        assert sent.startswith(client.body)
        if way is RST_STREAM:
            read_another_stream(server, client)
    assert server.left_behind() == []
    assert server.tracebacks() == []
    cancelled = server.cancellations(name)
    text = AT_NEXT_WRITE if expected == AT_NEXT_WRITE and len(cancelled) == 1 else cancelled
    assert cell.put(LEAVING, server, phase.column, text, way=way.title) == expected


@pytest.mark.parametrize("server", params(HTTP1_KINDS), indirect=True, scope="session")
def test_pipelined_request_may_hide_that_the_client_leaves(server: Server, cell: Cell) -> None:
    """On some servers the disconnect goes unnoticed if the client has sent its next request while
    the first one streams."""
    name = server.new_name()
    with server.connect() as client:
        client.ask(f"/ticking/{name}")
        client.read(1)
        client.connection.sendall(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        server.wait_for_more(name, "tick", TICKS)
    server.wait_for_more(name, "tick", TICKS)
    if not server.records(name, "ended"):
        server.fetch(f"/release/{name}")
    server.expect_a_clean_end(name)
    assert server.left_behind() == []
    found = cell.put(OTHER, server, PIPELINED, server.cancellations(name))
    assert found == pipelined(server.kind)
