"""Real servers: uvicorn in a thread of this process, where a test can look into what its app does,
and commands in a process of their own, where signals and programs are what is tested."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import pytest
import uvicorn

from sse_batching._types import ASGIApp

PATIENCE: Final = 10.0
"""Seconds after which a wait for a server gives up."""

REPOSITORY: Final = Path(__file__).parents[2]


class Kind(NamedTuple):
    """What uvicorn is put together from."""

    http: Literal["httptools", "h11"]
    loop: Literal["asyncio", "uvloop"]


HTTPTOOLS: Final = Kind("httptools", "asyncio")
KINDS: Final = [
    pytest.param(kind, id="-".join(kind))
    for kind in (HTTPTOOLS, Kind("h11", "asyncio"), Kind("httptools", "uvloop"))
]


class _Server(uvicorn.Server):
    """Ends when it is told, not at the next look a tenth of a second later; and says what its
    requests have left behind in the event loop."""

    left_behind: Sequence[asyncio.Task[Any]] = ()

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        own = asyncio.all_tasks()
        self._ready.set()
        await self.on_tick(0)
        await self._stop.wait()
        if others := asyncio.all_tasks() - own:
            await asyncio.wait(others, timeout=PATIENCE)
        self.left_behind = [task for task in others if not task.done()]

    def start(self, listener: socket.socket) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(
            target=self.run, args=([listener],), name="uvicorn", daemon=True
        )
        self._thread.start()
        assert self._ready.wait(PATIENCE), "the server has not started"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(2 * PATIENCE)
        assert not self._thread.is_alive(), "the server has not stopped"


@contextmanager
def serving(
    app: ASGIApp, kind: Kind = HTTPTOOLS, *, socket_buffers: int | None = None, **options: Any
) -> Iterator[int]:
    """Serve the app with uvicorn in a thread, on a free port, which is what is yielded.

    At the end every request must have ended and left no task. `socket_buffers`: bytes that the
    kernel keeps for a connection, each way; so little of a stream is out of the server's hands.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    if socket_buffers is not None:  # connections inherit them
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, socket_buffers)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, socket_buffers)
    config = uvicorn.Config(
        app, http=kind.http, loop=kind.loop, log_config=None, timeout_graceful_shutdown=1, **options
    )
    server = _Server(config)
    with listener:
        server.start(listener)
        try:
            yield listener.getsockname()[1]
        finally:
            server.stop()
    assert not server.left_behind, f"still at work: {server.left_behind}"


class Process:
    """A command that runs, and the lines that it has printed."""

    def __init__(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> None:
        self.lines: list[str] = []
        self._printed = threading.Condition()
        self._over = False
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait for a line in which the pattern is found; fails if the process ends without one."""
        with self._printed:
            self._printed.wait_for(lambda: self._over or self._find(pattern), PATIENCE)
            found = self._find(pattern)
        assert found, f"no line has {pattern!r}:\n" + "\n".join(self.lines)
        return found

    def terminate(self) -> int:
        """Send SIGTERM, and wait for the end; the exit code. What has ended may be ended again."""
        self._process.terminate()
        try:
            return self._process.wait(PATIENCE)
        finally:
            self._process.kill()  # does nothing to one that has ended
            self._process.wait()
            self._reader.join()

    def _find(self, pattern: str) -> re.Match[str] | None:
        return next((found for line in self.lines if (found := re.search(pattern, line))), None)

    def _read(self) -> None:
        assert self._process.stdout is not None  # it is a pipe
        with self._process.stdout as output:
            for line in output:
                with self._printed:
                    self.lines.append(line.rstrip("\n"))
                    self._printed.notify_all()
        with self._printed:
            self._over = True
            self._printed.notify_all()


@contextmanager
def server_process(
    *arguments: str, cwd: Path = REPOSITORY, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[Process, int]]:
    """Run Python with these arguments, a server that prints its address; yields its port, too."""
    process = Process([sys.executable, *arguments], cwd, environment or {})
    try:
        yield process, int(process.expect(r"http://127\.0\.0\.1:(\d+)")[1])
    finally:
        process.terminate()
