"""LiteLLM's proxy in front of a model that streams: fewer writes, and the model is stopped."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.programs.processes import post, running
from tests.support.clients import Client
from tests.support.servers import Process, serving
from tests.support.streams import EVENT_STREAM, Watched

pytestmark = pytest.mark.timeout(240)  # it takes half a minute to start

EVENTS: Final = 100
KEY: Final = "sk-of-these-tests-0123456789"

each_app = pytest.mark.parametrize("bare", [True, False], ids=["bare", "batched"])


class Model:
    """An OpenAI server whose model says EVENTS words, and then ends or waits."""

    def __init__(self, *, ends: bool = True) -> None:
        self.watched = Watched()
        self._ends = ends
        self.app = Starlette(routes=[Route("/v1/chat/completions", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> Response:
        return StreamingResponse(self.watched.watch_agent(self._words), media_type=EVENT_STREAM)

    async def _words(self) -> AsyncIterator[bytes]:
        for number in range(EVENTS):
            choice = {"index": 0, "delta": {"content": f"{number} "}, "finish_reason": None}
            part = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "model"}
            yield f"data: {json.dumps(part | {'choices': [choice]})}\n\n".encode()
            await anyio.sleep(0.01)
        if not self._ends:
            await anyio.sleep_forever()
        yield b"data: [DONE]\n\n"


@contextmanager
def asking(model: Model, folder: Path, bare: bool) -> Iterator[tuple[Client, Process]]:
    """Run the proxy, and yield a client that has asked it for a stream."""
    with serving(model.app) as model_port:
        config = folder / "config.yaml"
        parameters = {
            "model": "openai/model",
            "api_base": f"http://127.0.0.1:{model_port}/v1",
            "api_key": "x",
        }
        models = [{"model_name": "model", "litellm_params": parameters}]
        config.write_text(json.dumps({"model_list": models}))  # JSON is YAML, too
        environment = {"CONFIG_FILE_PATH": str(config), "LITELLM_MASTER_KEY": KEY}
        environment |= {"BARE": "1"} if bare else {}
        with (
            running("litellm", "on_litellm", environment) as (process, port),
            Client(port) as client,
        ):
            question = {"role": "user", "content": "?"}
            request: Any = {"model": "model", "stream": True, "messages": [question]}
            start = post(
                client, "/v1/chat/completions", request, ("authorization", f"Bearer {KEY}")
            )
            assert start.status_code == 200
            yield client, process


def test_stream_arrives_in_fewer_chunks(tmp_path: Path) -> None:
    """The proxy's stream is batched, with each word once."""
    with asking(Model(), tmp_path, bare=False) as (client, _):
        body = client.read_body()
    assert body.count(b'"content":"') == EVENTS
    assert client.chunks < EVENTS / 2


@each_app
def test_model_is_stopped_when_the_client_leaves(tmp_path: Path, bare: bool) -> None:
    """The proxy closes its request to the model, with the middleware as without it. Nothing asks
    for a token."""
    model = Model(ends=False)
    with asking(model, tmp_path, bare) as (client, process):
        client.read_body(until=b"2 ")
        client.leave()
        assert model.watched.closed()
    assert "Traceback" not in "\n".join(process.lines)
