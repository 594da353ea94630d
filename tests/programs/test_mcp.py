"""MCP's older transports, and fastmcp: what stops a tool whose caller has left.

`tests/frameworks/test_mcp.py` is about the SDK 2's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.programs.processes import post, running
from tests.support.clients import Client
from tests.support.servers import Process

STEPS: Final = 100
"""As many as in `on_mcp`, which cannot be imported here."""

ACCEPT: Final = ("accept", "application/json, text/event-stream")
INITIALIZE: Final = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-03-26",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
INITIALIZED: Final = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def call(tool: str) -> Any:
    params = {"name": tool, "arguments": {}, "_meta": {"progressToken": 1}}
    return {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}


@dataclass(frozen=True)
class Transport:
    name: str
    venv: str
    stops_its_tools: bool
    """True if the SDK cancels a tool when the client of its stream leaves."""
    has_token: bool = True
    """True if the request that a tool can get at is the one whose response it streams to."""


SSE: Final = Transport("sse", "mcp1", stops_its_tools=True, has_token=False)
TRANSPORTS: Final = [
    Transport("stateful", "mcp1", stops_its_tools=False),
    Transport("stateless", "mcp1", stops_its_tools=True),
    Transport("fastmcp", "fastmcp", stops_its_tools=False),
    SSE,
]
each_transport = pytest.mark.parametrize("transport", TRANSPORTS, ids=lambda it: it.name)
each_app = pytest.mark.parametrize("bare", [True, False], ids=["bare", "batched"])


@contextmanager
def calling(
    transport: Transport, tool: str, *, bare: bool = False
) -> Iterator[tuple[Client, Process]]:
    """Run a server, and yield a client that reads the stream in which the tool answers."""
    environment = {"TRANSPORT": transport.name} | ({"BARE": "1"} if bare else {})
    with (
        running(transport.venv, "on_mcp", environment) as (process, port),
        Client(port) as stream,
        Client(port) as messages,
    ):
        if transport is SSE:
            stream.ask("/sse")
            stream.read_start()
            endpoint = stream.read_body(until=b"\r\n\r\n").decode()
            path = re.search(r"data: (\S+)", endpoint)
            assert path
            for message in (INITIALIZE, INITIALIZED, call(tool)):
                assert post(messages, path[1], message, ACCEPT).status_code == 202
                messages.read_body()
                if message is INITIALIZE:
                    stream.read_body(until=b"serverInfo")
        else:
            headers = dict(post(messages, "/mcp", INITIALIZE, ACCEPT).headers)
            messages.read_body()
            session = headers.get(b"mcp-session-id", b"").decode()
            own = [("mcp-session-id", session)] if session else []
            post(messages, "/mcp", INITIALIZED, ACCEPT, *own)
            messages.read_body()
            assert post(stream, "/mcp", call(tool), ACCEPT, *own).status_code == 200
        yield stream, process


@each_transport
def test_progress_arrives_in_fewer_chunks(transport: Transport) -> None:
    """Each step arrives once."""
    with calling(transport, "work") as (client, _):
        before = client.chunks
        body = client.read_body(until=b'"done"')
    assert body.count(b"notifications/progress") == STEPS
    assert client.chunks - before < STEPS / 2


@each_transport
@each_app
def test_tool_is_stopped_as_without_the_middleware(transport: Transport, bare: bool) -> None:
    """Whether a tool that asks for nothing is stopped is the SDK's affair."""
    with calling(transport, "work", bare=bare) as (client, process):
        client.read_body(until=b"progress")
        client.leave()
        steps = int(process.expect(r"worked for (\d+)")[1])
    assert (steps < STEPS / 2) is transport.stops_its_tools


@each_transport
def test_tool_gets_its_token_by_its_request(transport: Transport) -> None:
    """The request of the context is the one that the stream answers, except on the SSE transport:
    there it is the message's own, which has ended. Pitfall 76."""
    with calling(transport, "ask") as (client, process):
        client.read_body(until=b"progress")
        client.leave()
        process.expect("token cancelled" if transport.has_token else "no token")
