"""The MCP Python SDK's streamable HTTP app: real sessions, with the middleware and without it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeAlias

import anyio
import jsonschema.validators  # type: ignore[import-untyped]  # noqa: F401 - not in the client's loop
import pytest
from mcp.client.client import Client as MCPClient
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared._httpx_utils import create_mcp_http_client

from sse_batching import CancelReason, SSEBatchingMiddleware, StreamReport, current_token
from sse_batching._types import ASGIApp
from tests.support.clients import Client
from tests.support.servers import PATIENCE, serving
from tests.support.streams import Watched, without_garbage_collection

Talk: TypeAlias = Callable[[MCPClient], Awaitable[Any]]

STEPS: Final = 50

LEFT: Final = (CancelReason.CLIENT_DISCONNECTED, "SSE client disconnected")

CALL: Final = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "work", "arguments": {}, "_meta": {"progressToken": 1}},
    }
).encode()
CALL_HEADERS: Final = [
    ("content-type", "application/json"),
    ("accept", "application/json, text/event-stream"),
]

each_protocol = pytest.mark.parametrize("mode", ["legacy", "auto"])
each_app = pytest.mark.parametrize("bare", [True, False], ids=["bare", "batched"])


class Tools:
    """An MCP server with three tools, and what happens to its streams."""

    def __init__(self, *, bare: bool = False, **options: Any) -> None:
        self.watched = Watched()
        self.reports: list[StreamReport] = []
        self._bare = bare
        server = self.server = MCPServer("tools", log_level="ERROR")
        for tool in (self.count, self.announce, self.work):
            server.tool()(tool)
        app = server.streamable_http_app(
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
            **options,
        )
        batched = SSEBatchingMiddleware(app, on_close=self.reports.append, grace_period=0.01)
        self.app: ASGIApp = app if bare else batched

    async def count(self, context: Context[Any, Any]) -> str:
        """Report progress step by step, and answer."""
        if not self._bare:
            assert not current_token().cancelled
        for step in range(STEPS):
            await context.report_progress(step, STEPS)
        return "counted"

    async def announce(self, context: Context[Any, Any]) -> str:
        """Send a notification, which goes out on the stream of the session, and answer."""
        await context.session.send_tool_list_changed()
        return "announced"

    async def work(self, context: Context[Any, Any]) -> str:
        """Report progress without end."""
        if not self._bare:
            self.watched.watch_token(current_token())
        async for _ in self.watched.watch_agent(partial(endless, context)):
            pass
        return "never"


async def endless(context: Context[Any, Any]) -> AsyncIterator[bytes]:
    step = 0
    while True:
        await context.report_progress(step)
        step += 1
        yield b""
        await anyio.sleep(0.005)


def in_session(tools: Tools, mode: str, talk: Talk, on_message: Any = None) -> Any:
    """Run a client's session with the server, in an event loop of its own. Return its result."""

    http = create_mcp_http_client()  # reads certificates, which would block the event loop

    async def run(port: int) -> Any:
        transport = streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http)
        with anyio.fail_after(PATIENCE):
            async with http, MCPClient(transport, mode=mode, message_handler=on_message) as client:
                return await talk(client)

    with serving(tools.app) as port:
        return anyio.run(run, port)


def progress_of(tools: Tools, mode: str) -> list[float]:
    """Return the steps that a client is notified about."""
    steps: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    async def count(client: MCPClient) -> None:
        result: Any = await client.call_tool("count", {}, progress_callback=note)
        assert result.content[0].text == "counted"

    in_session(tools, mode, count)
    return steps


@each_protocol
@each_app
def test_tool_reports_its_progress(mode: str, bare: bool) -> None:
    """The steps arrive one by one and in order, with the middleware as without it."""
    assert progress_of(Tools(bare=bare), mode) == list(range(STEPS))


@each_protocol
def test_progress_arrives_in_fewer_writes(mode: str) -> None:
    """The response to a call is a batched stream."""
    tools = Tools()
    progress_of(tools, mode)
    answer = next(report for report in tools.reports if report.chunks > STEPS)
    assert answer.outcome == "completed"
    assert answer.writes < STEPS / 4


def test_notification_arrives_on_the_stream_of_the_session() -> None:
    """The GET stream stays open for as long as the session, and is flushed in time."""
    tools = Tools()
    notified = anyio.Event()

    async def on_message(message: Any) -> None:
        if getattr(message, "method", None) == "notifications/tools/list_changed":
            notified.set()

    async def announce(client: MCPClient) -> None:
        while not notified.is_set():  # the stream may not be open yet
            await client.call_tool("announce", {})
            with anyio.move_on_after(0.1):
                await notified.wait()

    in_session(tools, "legacy", announce, on_message)
    assert notified.is_set()


def test_call_that_the_client_gives_up_cancels_the_token() -> None:
    """A client of the current protocol closes the response, and the tool ends."""
    tools = Tools()

    async def give_up(client: MCPClient) -> None:
        with anyio.CancelScope() as scope:

            async def first(progress: float, total: float | None, message: str | None) -> None:
                scope.cancel()

            await client.call_tool("work", {}, progress_callback=first)

    in_session(tools, "auto", give_up)
    assert tools.watched.closed()
    assert tools.watched.cancellations == [LEFT]


@each_app
@without_garbage_collection()
def test_tool_ends_when_its_caller_is_gone(bare: bool) -> None:
    """Without a session, the SDK itself ends the tool when the connection is closed. With the
    middleware, the token is cancelled once, too."""
    tools = Tools(bare=bare, stateless_http=True)
    with serving(tools.app) as port, Client(port) as client:
        client.ask("/mcp", method="POST", upload=len(CALL), headers=CALL_HEADERS)
        client.connection.sendall(CALL)
        client.read_start()
        client.read_body(until=b"progress")
        client.leave()
        assert tools.watched.closed()
    assert tools.watched.cancellations == ([] if bare else [LEFT])
