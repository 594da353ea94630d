"""Frameworks that do not stop their app when the client leaves.

Without the middleware an agent behind them runs to its end, although nobody listens.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import AsyncIterator

import anyio
import pytest

from sse_batching import CancelReason
from sse_batching._types import ASGIApp, Message, Receive, Scope, Send
from tests.frameworks.jobs import Job, Setup
from tests.frameworks.setups import begin, each_that_never_listens
from tests.support.clients import Client
from tests.support.servers import PATIENCE, serving
from tests.support.streams import Agent, event, ticking, waiting, without_garbage_collection


class QuietAgent:
    """Says something, is quiet until the test lets it speak, and then speaks without end."""

    def __init__(self) -> None:
        self.may_speak = threading.Event()

    async def __call__(self) -> AsyncIterator[bytes]:
        yield event(0)
        while not self.may_speak.is_set():  # noqa: ASYNC110 - it is set in another thread
            await anyio.sleep(0.005)
        for number in itertools.count(1):
            yield event(number)
            await anyio.sleep(0.005)


class DisconnectDetector:
    """ASGI middleware that detects when the server says that the client has left."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._left = threading.Event()

    def client_left(self) -> bool:
        """Wait for `http.disconnect`. Return False if it does not come."""
        return self._left.wait(PATIENCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched_receive() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                self._left.set()
            return message

        await self._app(scope, watched_receive, send)


@each_that_never_listens
@without_garbage_collection()
def test_quiet_agent_that_did_not_ask_runs_until_its_next_send(setup: Setup) -> None:
    """The framework does not stop it, and the middleware refuses the next `send`."""
    agent = QuietAgent()
    job = Job(agent)
    detector = DisconnectDetector(setup.make(job))
    with serving(detector) as port, Client(port) as client:
        try:
            begin(client, setup)
            client.leave()
            assert detector.client_left()
            assert job.closed_at() == math.inf  # after a second
        finally:
            agent.may_speak.set()
        assert job.closed_at() < math.inf


@each_that_never_listens
@pytest.mark.parametrize("agent", [ticking, waiting], ids=["ticking", "waiting"])
@without_garbage_collection()
def test_agent_that_asked_is_stopped(setup: Setup, agent: Agent) -> None:
    """An agent that asked for its token and ignores it is cancelled after the grace period."""
    job = Job(agent, ask=True)
    with serving(setup.make(job)) as port, Client(port) as client:
        begin(client, setup)
        client.leave()
        assert job.closed_at() < math.inf
    assert job.watched.cancellations == [
        (CancelReason.CLIENT_DISCONNECTED, "SSE client disconnected")
    ]
