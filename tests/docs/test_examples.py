"""Every example runs by the command of its docstring, and does what the docstring says."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

import httpx
import pytest

from tests.support.clients import Client
from tests.support.servers import PATIENCE, REPOSITORY, Process, server_process, serving

pytestmark = pytest.mark.slow

EXAMPLES: Final = REPOSITORY / "examples"

ON_ANY_PORT: Final = """
import functools, runpy, sys, uvicorn
uvicorn.run = functools.partial(uvicorn.run, port=0)
runpy.run_path(sys.argv[1], run_name="__main__")
"""
"""Runs an example as Python runs a file, but on a free port. Port 8000 may be taken."""


class Example(NamedTuple):
    """A stream of an example, and the line that its server prints when the reader has left."""

    name: str
    path: str
    last_line: str
    """A regular expression. Its group is the number of words that the agent has produced."""


STOPPED: Final = r"^stopped after (\d+) words: SSE client disconnected$"
INTERRUPTED: Final = r"^interrupted after (\d+) words: SSE client disconnected$"
CALL_CLOSED: Final = r"^upstream: (\d+) of \d+ words generated$"

STREAMS: Final = [
    Example("starlette_app", "/chat", STOPPED),
    Example("fastapi_app", "/chat", STOPPED),
    Example("fastapi_app", "/events", STOPPED),
    Example("raw_asgi", "/", STOPPED),
    Example("blocking_agent", "/chat", INTERRUPTED),
    Example("async_agent", "/chat", CALL_CLOSED),
]

each_stream = pytest.mark.parametrize("example", STREAMS, ids=lambda it: it.name + it.path)


def load(name: str) -> ModuleType:
    return importlib.import_module(f"examples.{name}")


@contextmanager
def running(name: str, cwd: Path) -> Iterator[tuple[Process, int]]:
    file = str(EXAMPLES / f"{name}.py")
    with server_process("-c", ON_ANY_PORT, file, cwd=cwd) as (process, port):
        yield process, port


def words_in(body: bytes) -> str:
    """Return the text of the events in this body."""
    data = re.findall(rb"^data: (\{.*\})$", body, re.MULTILINE)
    return "".join(json.loads(item)["delta"] for item in data)


def test_every_example_is_tested() -> None:
    """A new file in examples/ has to be added here."""
    tested = {example.name for example in STREAMS} | {"incomplete_snapshot"}
    assert tested == {path.stem for path in EXAMPLES.glob("[!_]*.py")}


@each_stream
def test_example_streams_its_whole_text(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that stays to the end gets every word."""
    module = load(example.name)
    monkeypatch.setattr(module, "SECONDS_PER_WORD", 0)
    with serving(module.app) as port, Client(port) as client:
        assert words_in(client.get(example.path)) == module.TEXT


@each_stream
def test_agent_of_an_example_stops_when_its_reader_leaves(example: Example, tmp_path: Path) -> None:
    """The server prints that the agent was stopped, and did so before the end of its text."""
    with running(example.name, tmp_path) as (process, port):
        with Client(port) as client:
            client.ask(example.path)
            client.read_start()
            client.read_body(until=b"data: ")
        words = int(process.expect(example.last_line)[1])
    assert words < len(load(example.name).TEXT.split())


def saved(port: int, response_id: str) -> dict[str, Any]:
    """Wait until `incomplete_snapshot` has stored an answer, and return the answer."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        answer = httpx.get(f"http://127.0.0.1:{port}/responses/{response_id}")
        if answer.status_code == 200:
            found: dict[str, Any] = answer.json()
            return found
        time.sleep(0.01)
    raise AssertionError("the answer was not stored")


def test_incomplete_answer_can_be_read_back(tmp_path: Path) -> None:
    """A reader that leaves in the middle finds the text so far under the answer's id.
    Pitfalls 27 and 65."""
    with running("incomplete_snapshot", tmp_path) as (_, port):
        with Client(port) as client:
            client.ask("/responses", method="POST")
            response_id = dict(client.read_start().headers)[b"response-id"].decode()
            read = words_in(client.read_body(until=b"more") + b"\n")
        answer = saved(port, response_id)
    assert (answer["id"], answer["status"]) == (response_id, "incomplete")
    assert answer["text"].startswith(read)
    text = load("incomplete_snapshot").TEXT
    assert text.startswith(answer["text"])
    assert len(answer["text"]) < len(text)


def test_complete_answer_can_be_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that stays to the end finds the whole text, with the status `completed`."""
    module = load("incomplete_snapshot")
    monkeypatch.setattr(module, "SECONDS_PER_WORD", 0)
    monkeypatch.setattr(module, "DATABASE", str(tmp_path / "responses.sqlite3"))
    with serving(module.app) as port, Client(port) as client:
        client.ask("/responses", method="POST")
        response_id = dict(client.read_start().headers)[b"response-id"].decode()
        client.read_body()
        answer = saved(port, response_id)
    assert answer == {"id": response_id, "status": "completed", "text": module.TEXT}


def test_unknown_answer_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id of no answer gives the status 404."""
    module = load("incomplete_snapshot")
    monkeypatch.setattr(module, "DATABASE", str(tmp_path / "responses.sqlite3"))
    with serving(module.app) as port, Client(port) as client:
        client.ask("/responses/none")
        assert client.read_start().status_code == 404
        client.read_body()


def test_check_of_the_demo_finds_no_fault() -> None:
    """`python -m examples.demo --check` exits with 0. CI runs it as `make demo-check`."""
    check = subprocess.run(
        [sys.executable, "-m", "examples.demo", "--check"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
        check=False,
    )
    assert check.returncode == 0, check.stdout + check.stderr
