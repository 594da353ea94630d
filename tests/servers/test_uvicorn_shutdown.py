"""A real uvicorn gets SIGTERM while streams are open, and cancels them when their time is up."""

from __future__ import annotations

import signal
from contextlib import ExitStack

import pytest

from tests.support.clients import Client
from tests.support.servers import KINDS, Kind, Process, server_process

PATHS = ["/starlette", "/fastapi", "/raw/", "/stalled/", "/json"]


@pytest.fixture(scope="module", params=KINDS)
def shut_down(request: pytest.FixtureRequest) -> tuple[Process, int]:
    """A server that was told to shut down while all of its agents were at work, once it has ended;
    and its exit code."""
    kind: Kind = request.param
    command = ("-m", "uvicorn", "tests.support.shutdown_apps:app", "--port", "0")
    options = ("--http", kind.http, "--loop", kind.loop, "--timeout-graceful-shutdown", "1")
    with server_process(*command, *options) as (process, port), ExitStack() as clients:
        for path in PATHS:
            client = clients.enter_context(Client(port))
            client.ask(path)
            if path == "/json":
                process.expect("json: asked")
            else:
                client.read_start()
                client.read_body(until=b"data: 0\n\n")
        return process, process.terminate()


@pytest.mark.parametrize("agent", [path.strip("/") for path in PATHS])
def test_agent_in_a_thread_is_interrupted(shut_down: tuple[Process, int], agent: str) -> None:
    """Its token is cancelled in the one turn of the event loop that uvicorn leaves it."""
    process, _ = shut_down
    said = [line for line in process.lines if line.startswith(f"{agent}: server")]
    assert said == [f"{agent}: server_shutdown"]


def test_server_ends_by_the_signal(shut_down: tuple[Process, int]) -> None:
    """No thread, task or callback of a stream keeps the process from ending as it was told to.
    Pitfall 48."""
    _, exit_code = shut_down
    assert exit_code == -signal.SIGTERM
