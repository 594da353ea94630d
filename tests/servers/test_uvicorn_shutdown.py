"""A real uvicorn gets a signal while streams are open, and cancels them after its timeout."""

from __future__ import annotations

import signal
from contextlib import ExitStack

import pytest

from tests.support.clients import Client
from tests.support.servers import KINDS, Kind, Process, server_process

PATHS = ["/starlette", "/fastapi", "/raw/", "/stalled/", "/json"]


@pytest.fixture(scope="module", params=KINDS)
def shut_down(request: pytest.FixtureRequest) -> tuple[Process, int]:
    """Send SIGTERM to a server while all of its agents are at work. See `end_by`."""
    return end_by(signal.SIGTERM, request.param)


def end_by(signal_sent: signal.Signals, kind: Kind) -> tuple[Process, int]:
    """Send this signal to a server while all of its agents are at work. Return it with its exit
    code."""
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
        return process, process.terminate(signal_sent)


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


def test_on_close_is_not_called_after_sigterm(shut_down: tuple[Process, int]) -> None:
    """uvicorn ends the process before a cancelled request can end. Only the token is cancelled."""
    process, _ = shut_down
    assert "on_close" not in process.lines


@pytest.mark.parametrize("kind", KINDS)
def test_on_close_is_called_after_sigint(kind: Kind) -> None:
    """After SIGINT uvicorn waits for the requests that it has cancelled."""
    process, _ = end_by(signal.SIGINT, kind)
    assert process.lines.count("on_close") == len(PATHS)
