"""The client leaves: each server, each way, wherever the response stands."""

from __future__ import annotations

import time
from typing import Final

import pytest

from tests.servers.matrix.expected import left, pipelined
from tests.servers.matrix.kinds import HTTP1_KINDS, KINDS, params
from tests.servers.matrix.phases import Phase, Then, content, seen_first
from tests.servers.matrix.process import Server
from tests.servers.matrix.table import LEAVING, OTHER, PIPELINED, Cell
from tests.servers.matrix.ways import HALF_CLOSE, RST_STREAM, Connection, Way, ways_of
from tests.support.servers import PATIENCE

TICKS: Final = 100
"""Events: with `max_delay` some ten writes."""

CELLS = params((kind, way, phase) for kind in KINDS for way in ways_of(kind) for phase in Phase)


def read_another(server: Server, client: Connection) -> None:
    """The connection can be used for a next stream, from its beginning to its end."""
    name = server.new_name()
    client.ask(f"/{Phase.AFTER_END}/{Then.END}/{name}")
    client.read_to_the_end()
    assert client.body == content(Phase.AFTER_END, Then.END)
    server.wait_until(name, "over")
    assert server.cancellations(name) == []


def read_until_over(server: Server, client: Connection, name: str) -> None:
    """Who has said only that it will send no more goes on reading."""
    deadline = time.monotonic() + PATIENCE
    while not server.told(name, "over") and time.monotonic() < deadline:
        client.drain(patience=0.02)
    client.drain()


@pytest.mark.parametrize(("server", "way", "phase"), CELLS, indirect=["server"], scope="session")
def test_client_that_leaves(server: Server, way: Way, phase: Phase, cell: Cell) -> None:
    """Token, generator, bytes and connection are as they should be, and nothing is left behind."""
    name = server.new_name()
    with server.connect() as client:
        client.ask(f"/{phase}/{Then.WAIT}/{name}")
        client.read(seen_first(phase))
        server.wait_until(name, "there")
        if phase is Phase.AFTER_END:
            client.read_to_the_end()
            read_another(server, client)
        way.take(client)
        if phase is Phase.AFTER_END:
            server.aside(f"/release/{name}")
        if way is HALF_CLOSE:
            read_until_over(server, client, name)
        server.expect_a_clean_end(name)
        if way is RST_STREAM:
            client.drain()
        assert content(phase, Then.WAIT).startswith(client.body)
        if way is RST_STREAM:
            read_another(server, client)
    assert server.left_behind() == []
    assert server.tracebacks() == []
    found = cell.put(LEAVING, server, phase.words, server.cancellations(name), way=way.title)
    assert found == left(server.kind, way, phase)


@pytest.mark.parametrize("server", params(HTTP1_KINDS), indirect=True, scope="session")
def test_client_that_leaves_behind_a_pipelined_request(server: Server, cell: Cell) -> None:
    """A second request on the connection, sent while the first one streams, may hide it."""
    name = server.new_name()
    with server.connect() as client:
        client.ask(f"/ticking/{name}")
        client.read(1)
        client.connection.sendall(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        server.wait_for_more(name, "tick", TICKS)
    server.wait_for_more(name, "tick", TICKS)
    if not server.told(name, "over"):
        server.aside(f"/release/{name}")
    server.expect_a_clean_end(name)
    assert server.left_behind() == []
    found = cell.put(OTHER, server, PIPELINED, server.cancellations(name))
    assert found == pipelined(server.kind)
