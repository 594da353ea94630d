"""An MCP server with two tools: by the SDK 1.x, or by fastmcp, with the transport TRANSPORT."""

from __future__ import annotations

import asyncio
import importlib
import os
from typing import Any, Final

from starlette.middleware import Middleware

from sse_batching import SSEBatchingMiddleware, get_token

TRANSPORT: Final = os.environ["TRANSPORT"]
BARE: Final = "BARE" in os.environ
STEPS: Final = 100

FASTMCP: Final = TRANSPORT == "fastmcp"

library: Any = importlib.import_module("fastmcp" if FASTMCP else "mcp.server.fastmcp")
Context = library.Context

options: dict[str, Any] = {}
if not FASTMCP:
    security = importlib.import_module("mcp.server.transport_security")
    options = {
        "stateless_http": TRANSPORT == "stateless",
        "log_level": "ERROR",
        "transport_security": security.TransportSecuritySettings(
            enable_dns_rebinding_protection=False
        ),
    }
server = library.FastMCP("tools", **options)


async def work(context: Context) -> str:  # type: ignore[valid-type]
    """Report progress step by step, and answer."""
    return await work_with(context)


async def work_with(context: Any) -> str:
    step = 0
    try:
        for step in range(STEPS):
            await context.report_progress(step, STEPS)
            await asyncio.sleep(0.01)
    finally:
        print("worked for", step + 1, flush=True)
    return "done"


async def ask(context: Context) -> str:  # type: ignore[valid-type]
    """Do the same, and print what becomes of the token."""
    return await ask_with(context)


async def ask_with(context: Any) -> str:
    try:
        token = get_token(context.request_context.request)
    except LookupError:
        print("no token", flush=True)
    else:
        token.register(print, "token cancelled")
    return await work_with(context)


for tool in (work, ask):
    server.tool()(tool)

if FASTMCP:
    app = server.http_app(middleware=[] if BARE else [Middleware(SSEBatchingMiddleware)])
else:
    app = server.sse_app() if TRANSPORT == "sse" else server.streamable_http_app()
    app = app if BARE else SSEBatchingMiddleware(app)
