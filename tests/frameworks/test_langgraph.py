"""LangGraph behind FastAPI: a graph whose node streams, and how it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, TypedDict

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph

from sse_batching import SSEBatchingMiddleware, current_token
from sse_batching._types import ASGIApp
from tests.frameworks.jobs import EVENTS
from tests.frameworks.page import run, snippet_of
from tests.support.clients import Client
from tests.support.servers import serving
from tests.support.streams import EVENT_STREAM, Watched, event

Events = Callable[[Any, Any], AsyncIterator[Any]]
"""Streams a graph for a question."""


class State(TypedDict):
    question: str


class Node:
    """The node of a graph: an agent that ends after EVENTS events."""

    def __init__(self, *, looks_at_its_token: bool = False) -> None:
        self.watched = Watched()
        self.said = 0
        self._looks = looks_at_its_token

    async def __call__(self, state: State) -> State:
        write = get_stream_writer()
        async for part in self.watched.watch_agent(self._answer):
            write(part)
        return state

    async def _answer(self) -> AsyncIterator[bytes]:
        token = current_token() if self._looks else None
        for number in range(EVENTS):
            if token is not None and token.cancelled:
                return
            self.said += 1
            yield event(number)
            await asyncio.sleep(0.01)


async def without_a_token(graph: Any, question: Any) -> AsyncIterator[Any]:
    async for part in graph.astream(question, stream_mode="custom"):
        yield part


def from_the_page() -> Events:
    events: Events = run(snippet_of("langgraph"), asyncio=asyncio, current_token=current_token)[
        "events"
    ]
    return events


def serve(node: Node, events: Events = without_a_token, *, bare: bool = False) -> ASGIApp:
    builder: Any = StateGraph(State)
    builder.add_node("agent", node)
    builder.add_edge(START, "agent")
    graph = builder.compile()
    app = FastAPI()

    @app.get("/")
    async def endpoint() -> StreamingResponse:
        return StreamingResponse(events(graph, {"question": "?"}), media_type=EVENT_STREAM)

    return app if bare else SSEBatchingMiddleware(app)


def leave(node: Node, app: ASGIApp) -> None:
    """Leave after the first event, and wait until the node has ended."""
    with serving(app) as port, Client(port) as client:
        client.ask()
        client.read_start()
        client.read_body(until=event(0))
        client.leave()
        assert node.watched.closed()


WAYS: Final = {"without-a-token": without_a_token, "registered": from_the_page()}


@pytest.mark.parametrize("events", WAYS.values(), ids=WAYS)
def test_stream_of_a_graph_arrives_in_fewer_chunks(events: Events) -> None:
    """A graph's stream is batched as any other, with each event once."""
    with serving(serve(Node(), events)) as port, Client(port) as client:
        assert client.get() == b"".join(event(number) for number in range(EVENTS))
        assert client.chunks < EVENTS / 2


@pytest.mark.parametrize("bare", [True, False], ids=["bare", "batched"])
def test_node_runs_to_its_end_if_nobody_cancels_its_task(bare: bool) -> None:
    """Neither Starlette nor the middleware stops it, because LangGraph waits for its nodes when the
    generator is cancelled. Pitfall 87."""
    node = Node()
    leave(node, serve(node, bare=bare))
    assert node.said == EVENTS


def test_registered_cancellation_stops_the_node() -> None:
    """The task of the stream is cancelled as the page says, before Starlette cancels it again and
    again. Pitfall 87."""
    node = Node()
    leave(node, serve(node, from_the_page()))
    assert node.said < EVENTS / 2


def test_node_may_look_at_its_token() -> None:
    """The context variable reaches the nodes of a graph."""
    node = Node(looks_at_its_token=True)
    leave(node, serve(node))
    assert node.said < EVENTS / 2
