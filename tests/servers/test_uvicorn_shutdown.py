"""A real uvicorn gets SIGTERM while streams are open, and cancels them when its timeout is over."""

from __future__ import annotations

import signal
from contextlib import ExitStack

import pytest

from tests.support.clients import Client
from tests.support.servers import KINDS, Kind, Process, server_process

PATHS = ["/starlette", "/fastapi", "/raw/", "/stalled/", "/json"]


@pytest.fixture(scope="module", params=KINDS)
def shut_down(request: pytest.FixtureRequest) -> tuple[Process, int]:
    """Shut a server down while all of its agents are at work. Return it with its exit code."""
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
    """The agent's token is cancelled in the one loop iteration that uvicorn leaves to the app."""
    process, _ = shut_down
    printed = [line for line in process.lines if line.startswith(f"{agent}: server")]
    assert printed == [f"{agent}: server_shutdown"]


def test_server_ends_by_the_signal(shut_down: tuple[Process, int]) -> None:
    """No thread, task or callback of a stream keeps the process from ending. Pitfall 48."""
    _, exit_code = shut_down
    assert exit_code == -signal.SIGTERM
