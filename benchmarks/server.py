"""Start the servers that are measured: each in a process of its own, and all on one core."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

TIMEOUT: Final = 30.0
"""Seconds after which waiting for a server has failed."""

CORES: Final = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []


class Server(NamedTuple):
    """Server that is running."""

    name: str
    port: int
    pid: int


def pin(core: int) -> None:
    """Keep this process, and the processes that it starts, on the first core or the second."""
    if sys.platform == "linux" and len(CORES) > 1:
        os.sched_setaffinity(0, {CORES[core]})


def raise_descriptor_limit() -> int:
    """Let this process, and the processes that it starts, open as many files as is allowed."""
    import resource  # not on Windows

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@contextmanager
def serving(name: str, module: str = "benchmarks.apps") -> Iterator[Server]:
    """Serve an app with uvicorn, httptools and uvloop."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    app = f"{module}:{name.replace('-', '_')}"
    command = [sys.executable, "-m", "uvicorn", "--factory", app, "--port", str(port)]
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    pin(0)
    process = subprocess.Popen([*command, *options, "--log-level", "critical"])
    pin(1)
    try:
        wait_for(process, port)
        yield Server(name, port, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(2.0)
        except subprocess.TimeoutExpired:  # it waits for streams that are still open
            process.kill()
            process.wait()


def wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"the server has not started: {process.args!r}")
