"""What the official JavaScript clients make of a stream, under Node.

The clients run in one Node process, which starts with the first stream and ends with the tests. npm
installs the clients if they are missing. Without Node the tests are skipped. With
SSE_BATCHING_REQUIRE_NODE=1 in the environment they fail.
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
"""Seconds that npm may take: less than the time limit of a test."""


class Accumulated(NamedTuple):
    """What a client has at the end of a stream."""

    final: object
    """The result, which is the same for each way to cut a text into adjacent deltas. If the client
    fails, `error` has the reason, beside the result so far."""
    updates: int
    """How often a page that shows the answer would have been updated."""


def final(format: str, bodies: Sequence[bytes]) -> list[object]:
    """Return what the official client of the format ends up with, for each body, as JSON values."""
    return [accumulated.final for accumulated in accumulate(format, bodies)]


def accumulate(format: str, bodies: Sequence[bytes]) -> list[Accumulated]:
    """Return what `final` does, with the number of updates."""
    clients = running_clients()
    return [clients.read(format, body) for body in bodies]


class Clients:
    """The Node process in which the clients run."""

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
            pass  # the process has ended: reading the answer fails as well
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
    """Return the process, which runs until the tests end."""
    clients = start_clients()
    atexit.register(clients.close)
    return clients


def start_clients() -> Clients:
    node = shutil.which("node")
    if node is None:
        skip_or_fail("node is needed to run the JavaScript clients (Debian: apt install nodejs)")
    install()
    return Clients(node)


def install() -> None:
    """Install the versions in package-lock.json into node_modules, if they are not there."""
    wanted = DIRECTORY / "package-lock.json"
    installed = DIRECTORY / "node_modules" / ".package-lock.json"  # npm writes this file last
    with wanted.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests that run in parallel install the clients once
        if installed.exists() and installed.stat().st_mtime >= wanted.stat().st_mtime:
            return
        npm = shutil.which("npm")
        if npm is None:
            skip_or_fail(
                "npm is needed to install the JavaScript clients (Debian: apt install npm)"
            )
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
    """Skip the test, or let it fail if Node is required."""
    if os.environ.get("SSE_BATCHING_REQUIRE_NODE") == "1":
        pytest.fail(f"{reason}, and SSE_BATCHING_REQUIRE_NODE=1 requires them")
    pytest.skip(reason)
