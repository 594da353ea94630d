"""gradio, mounted and launched: fewer writes, and gradio itself closes the function's generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.programs.processes import post, running
from tests.support.clients import Client
from tests.support.servers import Process

EVENTS: Final = 100
"""As many as in `on_gradio`, which cannot be imported here."""

each_app = pytest.mark.parametrize("bare", [True, False], ids=["bare", "batched"])
each_way = pytest.mark.parametrize("launch", [False, True], ids=["mount", "launch"])


@contextmanager
def asking(*, launch: bool, bare: bool = False) -> Iterator[tuple[Client, Process]]:
    """Run gradio, and yield a client that reads the events of its queue."""
    environment = {"GRADIO_ANALYTICS_ENABLED": "False"} | ({"BARE": "1"} if bare else {})
    with (
        running("gradio", "on_gradio", environment, launch=launch) as (process, port),
        Client(port) as client,
    ):
        question = {"data": ["?"], "fn_index": 0, "session_hash": "session"}
        assert post(client, "/gradio_api/queue/join", question).status_code == 200
        client.read_body()
        client.ask("/gradio_api/queue/data?session_hash=session")
        client.read_start()
        yield client, process


@each_way
def test_stream_arrives_in_fewer_chunks(launch: bool) -> None:
    """The events of gradio's queue are batched, with each step of the function once."""
    with asking(launch=launch) as (client, _):
        body = client.read_body(until=b'"close_stream"')
    assert body.count(b'"msg":"process_generating"') == EVENTS
    assert client.chunks < EVENTS / 2


@each_way
@each_app
def test_function_is_stopped_when_the_client_leaves(launch: bool, bare: bool) -> None:
    """gradio closes the generator of the function, with the middleware as without it."""
    with asking(launch=launch, bare=bare) as (client, process):
        client.read_body(until=b"process_generating")
        client.leave()
        steps = int(process.expect(r"answered (\d+)")[1])
    assert steps < EVENTS / 2
    assert "Traceback" not in "\n".join(process.lines)
