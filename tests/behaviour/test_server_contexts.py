"""A server may keep a copy of the request's context long after the request, for example in the
timer of a connection that is kept alive."""

from __future__ import annotations

import gc
import weakref
from contextvars import Context, copy_context

import pytest
from starlette.types import Message, Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware, current_token
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import chunk, last, start

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

each_kind = pytest.mark.parametrize("content_type", [b"text/event-stream", b"text/plain"])


class Agent:
    """An object with a method that the app registers."""

    def interrupt(self) -> None:
        raise AssertionError("nobody has left")


class Service:
    """An app that registers its agent, and the contexts in which the server wrote."""

    def __init__(self, content_type: bytes) -> None:
        self.contexts: list[Context] = []
        self.agent: weakref.ref[Agent] | None = None
        self._content_type = content_type

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        agent = Agent()
        self.agent = weakref.ref(agent)
        current_token().register(agent.interrupt)
        await receive()
        await send(start(self._content_type))
        await send(chunk(b"a"))
        await send(last())

    async def note(self, number: int, message: Message) -> None:
        self.contexts.append(copy_context())

    async def serve(self) -> None:
        async with Conversation(SSEBatchingMiddleware(self.app), on_send=self.note) as talk:
            await talk.ended()
        assert self.contexts


@each_kind
async def test_a_context_that_the_server_keeps_does_not_keep_the_agent(content_type: bytes) -> None:
    """A server keeps the context of its last write for as long as it keeps the connection."""
    service = Service(content_type)
    await service.serve()
    gc.collect()
    assert service.agent is not None
    assert service.agent() is None
