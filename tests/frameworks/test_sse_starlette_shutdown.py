"""sse-starlette when uvicorn shuts down: it ends its streams by itself, with the middleware as
without it. No client has left then, and no server has cancelled anything: the token says nothing.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.support.clients import Client
from tests.support.servers import server_process

COMMAND = ("-m", "uvicorn", "tests.frameworks.shutdown_app:app", "--port", "0")
TIMEOUT = ("--timeout-graceful-shutdown", "1")

ENDED = ["plain: closed", "plain: background"]


def shut_down(*names: str, bare: bool = False, drain: bool = True) -> list[str]:
    """What a server says that is told to shut down while these streams are open, in order."""
    environment = {"BARE": "1" if bare else "", "NO_DRAIN": "" if drain else "1"}
    server = server_process(*COMMAND, *TIMEOUT, environment=environment)
    with server as (process, port), ExitStack() as clients:
        for name in names:
            client = clients.enter_context(Client(port))
            client.ask(f"/{name}")
            client.read_start()
            client.read_body(until=b"data: 0")
        process.terminate()
        own = ("report:", *(f"{name}:" for name in names))
        return [line for line in process.lines if line.startswith(own)]


def test_stream_is_ended_as_without_the_middleware() -> None:
    """The generator is closed and background tasks run, in the time that uvicorn leaves; the report
    calls it a failure, for the last message never came."""
    assert shut_down("plain", bare=True) == ENDED
    assert shut_down("plain") == [*ENDED, "report: failed None 11"]


def test_token_is_not_cancelled() -> None:
    """It is the app that ends the stream. An agent that works elsewhere, in a thread say, is to be
    stopped in the generator's `finally`."""
    said = shut_down("asked")
    assert said == ["asked: closed", "asked: background", "report: failed None 11"]


@pytest.mark.parametrize("bare", [True, False], ids=["bare", "batched"])
def test_stream_that_uvicorn_cancels_is_closed(bare: bool) -> None:
    """With its automatic drain turned off, uvicorn cancels the stream when the time is up: the
    generator is closed in the turn of the loop that it leaves, and nothing else is done."""
    assert shut_down("plain", bare=bare, drain=False) == ["plain: closed"]


def test_token_of_a_stream_that_uvicorn_cancels_is_not_cancelled_in_time() -> None:
    """sse-starlette waits in `receive` in a task of its own, which hears of it too late."""
    assert shut_down("asked", drain=False) == ["asked: closed"]
