"""sse-starlette ends its streams itself when uvicorn shuts down, with the middleware as without it.

No client has left then, and the server has cancelled nothing, so the token is not cancelled.
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
    """Shut a server down while these streams are open. Return what it prints about them."""
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
    """The generator is closed and background tasks run in the time that uvicorn leaves. The report
    says `failed`, because the last message never came."""
    assert shut_down("plain", bare=True) == ENDED
    assert shut_down("plain") == [*ENDED, "report: failed None 11"]


def test_token_is_not_cancelled() -> None:
    """The app itself ends the stream. An agent that runs elsewhere, such as in a thread, has to be
    stopped in the generator's `finally`."""
    printed = shut_down("asked")
    assert printed == ["asked: closed", "asked: background", "report: failed None 11"]


@pytest.mark.parametrize("bare", [True, False], ids=["bare", "batched"])
def test_stream_that_uvicorn_cancels_is_closed(bare: bool) -> None:
    """If sse-starlette does not end its streams, uvicorn cancels them. The generator is closed in
    the one loop iteration that uvicorn leaves to the app, and nothing else runs."""
    assert shut_down("plain", bare=bare, drain=False) == ["plain: closed"]


def test_token_of_a_stream_that_uvicorn_cancels_is_not_cancelled_in_time() -> None:
    """sse-starlette waits in `receive` in a task of its own, which is cancelled too late."""
    assert shut_down("asked", drain=False) == ["asked: closed"]
