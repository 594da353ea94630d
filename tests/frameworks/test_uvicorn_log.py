"""The line about a client that has left, under the log configuration of uvicorn's command."""

from __future__ import annotations

import pytest

from tests.support.clients import Client
from tests.support.servers import server_process

APP = "tests.frameworks.logging_app:app"


@pytest.mark.parametrize("configure", [False, True])
def test_line_is_shown_if_the_app_configures_the_log(configure: bool) -> None:
    """uvicorn configures its own loggers only, and the line is at level INFO."""
    environment = {"CONFIGURE": "1"} if configure else {}
    with server_process("-m", "uvicorn", APP, "--port", "0", environment=environment) as (
        process,
        port,
    ):
        with Client(port) as client:
            client.ask()
            client.read_start()
            client.read_body(until=b"data: 0")
        process.terminate()  # after its requests have ended
    assert any("SSE client disconnected" in line for line in process.lines) is configure
