"""The SDKs of OpenAI and Anthropic read batched streams from a real uvicorn, and close one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, NamedTuple, Protocol

import anthropic
import anyio
import anyio.lowlevel
import openai
import pytest
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from sse_batching import CancelReason
from tests.support.servers import PATIENCE, serving
from tests.support.streams import EVENT_STREAM, Agent, Watched

WORDS: Final = [f"wörd {number} " for number in range(60)]


class Stream(Protocol):
    """The methods that the streams of both SDKs have."""

    def __iter__(self) -> Iterator[BaseModel]: ...
    def close(self) -> None: ...


def openai_events() -> Iterator[bytes]:
    """Yield the events of Chat Completions: a role, the words, the end, the usage and [DONE]."""

    def chunk(**more: Any) -> bytes:
        fields = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", **more}
        return b"data: " + json.dumps(fields, ensure_ascii=False).encode() + b"\n\n"

    def choice(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        return chunk(choices=[{"index": 0, "delta": delta, "finish_reason": finish_reason}])

    yield choice({"role": "assistant", "content": ""})
    yield from (choice({"content": word}) for word in WORDS)
    yield choice({}, "stop")
    usage = {"prompt_tokens": 3, "completion_tokens": len(WORDS), "total_tokens": len(WORDS) + 3}
    yield chunk(choices=[], usage=usage)
    yield b"data: [DONE]\n\n"


def anthropic_events() -> Iterator[bytes]:
    """Yield the events of Messages: one block of text, a delta for each word.

    There is a ping after the start of the block, as the real server sends one.
    """

    def named(kind: str, **fields: Any) -> bytes:
        data = json.dumps({"type": kind, **fields}, ensure_ascii=False)
        return f"event: {kind}\ndata: {data}\n\n".encode()

    message = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": []}
    unfinished = {"stop_reason": None, "stop_sequence": None}
    usage = {"input_tokens": 3, "output_tokens": 1}
    yield named("message_start", message={**message, **unfinished, "usage": usage})
    yield named("content_block_start", index=0, content_block={"type": "text", "text": ""})
    yield named("ping")
    for word in WORDS:
        yield named("content_block_delta", index=0, delta={"type": "text_delta", "text": word})
    yield named("content_block_stop", index=0)
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    yield named("message_delta", delta=end, usage={"output_tokens": len(WORDS)})
    yield named("message_stop")


@contextmanager
def ask_openai(url: str) -> Iterator[Stream]:
    with (
        openai.OpenAI(api_key="none", base_url=url, max_retries=0, timeout=PATIENCE) as client,
        client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Say something."}], stream=True
        ) as stream,
    ):
        yield stream


@contextmanager
def ask_anthropic(url: str) -> Iterator[Stream]:
    with (
        anthropic.Anthropic(
            api_key="none", base_url=url, max_retries=0, timeout=PATIENCE
        ) as client,
        client.messages.create(
            model="m",
            max_tokens=100,
            messages=[{"role": "user", "content": "Say something."}],
            stream=True,
        ) as stream,
    ):
        yield stream


class SDK(NamedTuple):
    ask: Callable[[str], AbstractContextManager[Stream]]
    path: str
    events: Callable[[], Iterator[bytes]]
    items: int
    """How many items the SDK yields for these events. It yields none for a ping or [DONE]."""


SDKS: Final = [
    pytest.param(SDK(ask_openai, "/chat/completions", openai_events, len(WORDS) + 3), id="openai"),
    pytest.param(
        SDK(ask_anthropic, "/v1/messages", anthropic_events, len(WORDS) + 5), id="anthropic"
    ),
]


def answering(sdk: SDK) -> Agent:
    """Return an agent that yields to the event loop after each event."""

    async def answer() -> AsyncIterator[bytes]:
        for part in sdk.events():
            yield part
            await anyio.lowlevel.checkpoint()

    return answer


def serve(sdk: SDK, agent: Agent) -> Starlette:
    async def handler(request: Request) -> Response:
        return StreamingResponse(agent(), media_type=EVENT_STREAM)

    return Starlette(routes=[Route(sdk.path, handler, methods=["POST"])])


def read(sdk: SDK, app: Starlette) -> list[dict[str, Any]]:
    with serving(app) as port, sdk.ask(f"http://127.0.0.1:{port}") as stream:
        return [item.model_dump() for item in stream]


@pytest.mark.parametrize("sdk", SDKS)
def test_sdk_reads_a_batched_stream_as_it_reads_a_plain_one(sdk: SDK) -> None:
    """The SDK yields the same items, in the same order, if a chunk has many events. Pitfall 43."""
    watched = Watched()
    plain = read(sdk, serve(sdk, answering(sdk)))
    batched = read(sdk, watched.batch(serve(sdk, answering(sdk))))
    report = watched.report()
    assert report.writes < report.chunks / 4
    assert len(plain) == sdk.items
    assert batched == plain


@pytest.mark.parametrize("sdk", SDKS)
def test_sdk_reads_the_same_text_in_fewer_items_of_a_merged_stream(sdk: SDK) -> None:
    """Items without text are as many as before, in the same order."""
    watched = Watched()
    plain = read(sdk, serve(sdk, answering(sdk)))
    merged = read(sdk, watched.batch(serve(sdk, answering(sdk)), merge="auto"))
    assert len(merged) < len(plain) / 4
    assert text_and_others(merged) == text_and_others(plain)


def text_and_others(items: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Return the text of all items, and the items without text."""
    text, others = [], []
    for item in items:
        choices = item.get("choices") or [{}]
        delta = choices[0].get("delta") or item.get("delta") or {}
        part = delta.get("content") or delta.get("text")
        if part:
            text.append(part)
        else:
            others.append(item)
    return "".join(text), others


@pytest.mark.parametrize("sdk", SDKS)
def test_closing_the_stream_of_an_sdk_cancels_the_request(sdk: SDK) -> None:
    """A user who has read enough calls `stream.close()`, and the agent stops."""

    async def answer() -> AsyncIterator[bytes]:
        for part in sdk.events():
            yield part
        await anyio.sleep_forever()

    watched = Watched()
    app = watched.batch(serve(sdk, lambda: watched.watch_agent(answer)))
    with serving(app) as port, sdk.ask(f"http://127.0.0.1:{port}") as stream:
        next(iter(stream))
        stream.close()
        assert watched.report().reason is CancelReason.CLIENT_DISCONNECTED
        assert watched.closed()
