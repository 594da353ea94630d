"""What a stream means to the official JavaScript clients, under Node.

The clients run in one process of Node's, which starts at the first stream to read and ends with the
tests; npm installs them first where they are not there yet. Without Node there is nothing to ask:
the test is skipped, or fails where SSE_BATCHING_REQUIRE_NODE=1.
"""

from __future__ import annotations

import atexit
import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

import pytest

FORMATS: Final = (
    "ag-ui",
    "anthropic-messages",
    "openai-chat",
    "openai-responses",
    "vercel-ui",
)

DIRECTORY: Final = Path(__file__).parent / "node"

NPM_TIMEOUT: Final = 45.0
"""Seconds that npm may take: less than a test may."""


class Accumulated(NamedTuple):
    """What a client has by the end of a stream."""

    final: object
    """The same for each way of cutting a text into adjacent deltas. A client that gives up says
    why in `error`, beside what it had by then."""
    updates: int
    """How often a page that shows the answer would have been drawn anew."""


def final(format: str, bodies: Sequence[bytes]) -> list[object]:
    """What the official client of the format ends up with, for each body: plain JSON."""
    return [accumulated.final for accumulated in accumulate(format, bodies)]


def accumulate(format: str, bodies: Sequence[bytes]) -> list[Accumulated]:
    """As `final`, and how many updates it took."""
    clients = running_clients()
    return [clients.read(format, body) for body in bodies]


class Clients:
    """The process in which the clients run."""

    def __init__(self, node: str) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (`close` closes it)
        self._process = subprocess.Popen(
            [node, DIRECTORY / "accumulate.mjs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
        )

    def read(self, format: str, body: bytes) -> Accumulated:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"format": format, "body": base64.b64encode(body).decode()}
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and there is no answer to read either
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise RuntimeError(f"the JavaScript clients died: {self._errors.read().decode()}")
        answer = json.loads(line)
        if "failed" in answer:
            raise RuntimeError(answer["failed"])
        return Accumulated(answer["final"], answer["updates"])

    def close(self) -> None:
        try:
            self._process.communicate()
        finally:
            self._errors.close()


@cache
def running_clients() -> Clients:
    """The one process of these tests, until they end."""
    clients = start_clients()
    atexit.register(clients.close)
    return clients


def start_clients() -> Clients:
    node = shutil.which("node")
    if node is None:
        skip_or_fail("there is no node to run the JavaScript clients (Debian: apt install nodejs)")
    install()
    return Clients(node)


def install() -> None:
    """Have the versions of package-lock.json in node_modules."""
    wanted = DIRECTORY / "package-lock.json"
    installed = DIRECTORY / "node_modules" / ".package-lock.json"  # npm writes it when all is there
    with wanted.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests that run in parallel install it once
        if installed.exists() and installed.stat().st_mtime >= wanted.stat().st_mtime:
            return
        npm = shutil.which("npm")
        if npm is None:
            skip_or_fail("there is no npm to get the JavaScript clients (Debian: apt install npm)")
        done = subprocess.run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
            cwd=DIRECTORY,
            capture_output=True,
            encoding="utf-8",
            timeout=NPM_TIMEOUT,
            check=False,
        )
        if done.returncode:
            skip_or_fail(f"npm could not install the JavaScript clients: {done.stderr}")


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test, or fail where Node is required."""
    if os.environ.get("SSE_BATCHING_REQUIRE_NODE") == "1":
        pytest.fail(f"{reason}; and SSE_BATCHING_REQUIRE_NODE says they must run")
    pytest.skip(reason)
