"""The servers that the soak can run on, each started as a user would start it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.support.servers import Process, server_process

APP: Final = "tests.soak.app:app"
KEEP_ALIVE: Final = "1"
"""Seconds that a server keeps an idle connection, and with it the context of its last request."""

UVICORN: Final = (
    "uvicorn",
    APP,
    "--port={port}",
    "--http=httptools",
    "--no-access-log",
    f"--timeout-keep-alive={KEEP_ALIVE}",
)
HYPERCORN: Final = (
    "hypercorn",
    APP,
    "--bind=127.0.0.1:{port}",
    f"--keep-alive={KEEP_ALIVE}",
    "--backlog=2048",
)
GRANIAN: Final = (
    "granian",
    APP,
    "--interface=asgi",
    "--port={port}",
    "--workers-kill-timeout=5",
)
SERVERS: Final[dict[str, tuple[str, ...]]] = {
    "uvicorn-uvloop": (*UVICORN, "--loop", "uvloop"),
    "uvicorn-asyncio": (*UVICORN, "--loop", "asyncio"),
    "hypercorn-asyncio": (*HYPERCORN, "--worker-class", "asyncio"),
    "hypercorn-trio": (*HYPERCORN, "--worker-class", "trio"),
    "granian": GRANIAN,
}


@contextmanager
def serving(server: str) -> Iterator[tuple[Process, int]]:
    """Serve the soak's app in a process. Yield the process and its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [part.format(port=port) for part in SERVERS[server]]
    with server_process("-m", *command) as (process, port):
        yield process, port
