"""Real servers, in two forms.

`serving` runs uvicorn in a thread of this process, where a test can see what its app does.
`server_process` runs a command in a process of its own, for tests of signals and of programs.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
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
"""Seconds after which a wait for a server fails."""

REPOSITORY: Final = Path(__file__).parents[2]


class Kind(NamedTuple):
    """The parts that uvicorn is run with."""

    http: Literal["httptools", "h11"]
    loop: Literal["asyncio", "uvloop"]


HTTPTOOLS: Final = Kind("httptools", "asyncio")
KINDS: Final = [
    pytest.param(kind, id="-".join(kind))
    for kind in (HTTPTOOLS, Kind("h11", "asyncio"), Kind("httptools", "uvloop"))
]


class _Server(uvicorn.Server):
    """A server that stops at once. uvicorn's own checks only every 0.1 s whether to stop.

    It also finds the tasks that requests have left behind in the event loop.
    """

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
    """Serve the app with uvicorn in a thread, and yield the port.

    At the end of the block each request must have ended and left no task. `socket_buffers` is the
    size of the kernel's buffers for a connection, each way, in bytes. With small ones a client
    that does not read soon stalls the server.
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
    """A process that runs a command, and the lines that it has printed."""

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

    def expect(self, pattern: str, patience: float = PATIENCE) -> re.Match[str]:
        """Wait for a line that contains the pattern. Fail if the process ends without one."""
        with self._printed:
            self._printed.wait_for(lambda: self._over or self._find(pattern), patience)
            found = self._find(pattern)
        assert found, f"no line has {pattern!r}:\n" + "\n".join(self.lines)
        return found

    def terminate(self, signal_sent: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, and return the exit code. May be called again."""
        self._process.send_signal(signal_sent)
        try:
            return self._process.wait(PATIENCE)
        finally:
            self._process.kill()  # does nothing to a process that has ended
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
    *arguments: str,
    cwd: Path = REPOSITORY,
    environment: Mapping[str, str] | None = None,
    python: str = sys.executable,
    startup: float = PATIENCE,
) -> Iterator[tuple[Process, int]]:
    """Run a server, as Python with these arguments. Yield the process, and the port it prints.

    It has `startup` seconds to print the port.
    """
    process = Process([python, *arguments], cwd, environment or {})
    try:
        yield process, int(process.expect(r"http://127\.0\.0\.1:(\d+)", startup)[1])
    finally:
        process.terminate()
