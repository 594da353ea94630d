"""freezegun and time-machine: which of their clocks stop the middleware's timers."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final

import anyio
import pytest
import time_machine
from freezegun import freeze_time

from sse_batching import SSEBatchingMiddleware, current_token
from sse_batching._types import Receive, Scope, Send
from sse_batching.testing import Conversation
from tests.conftest import DEBUG, REAL_TIME, loops
from tests.support.apps import chunk, start

pytestmark = pytest.mark.anyio

NEW_YEAR: Final = "2030-01-01"

LAZY: Final = ["anthropic", "cohere", "google", "langchain", "langgraph", "ollama", "openai"]
"""Packages of other tests, which load hundreds of modules when freezegun looks into them."""

freeze: Final = partial(freeze_time, NEW_YEAR, ignore=LAZY)

LOOP_GOES_ON: Final = [
    pytest.param(partial(freeze, real_asyncio=True), id="real-asyncio"),
    pytest.param(partial(freeze, tick=True), id="tick"),
    pytest.param(partial(time_machine.travel, NEW_YEAR, tick=False), id="time-machine"),
]

on_a_clock_that_stands = loops(
    [DEBUG], because="freezegun stops the clock of asyncio, and does not reach that of uvloop"
)


class Agent:
    """An app that sends an event when the test says so, and ends when it is cancelled."""

    def __init__(self, **options: Any) -> None:
        self.stopped = False
        self._next = anyio.Event()
        self._options = options

    def speak(self) -> None:
        self._next.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        current_token()
        await send(start())
        try:
            while True:
                await self._next.wait()
                self._next = anyio.Event()
                await send(chunk(b"data: word\n\n"))
        finally:
            self.stopped = True

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[Conversation]:
        """Ask for the stream. At the end of the block the agent is cancelled."""
        async with Conversation(SSEBatchingMiddleware(self, **self._options)) as talk:
            yield talk
            talk.cancel()


def more_than(count: int, talk: Conversation) -> bool:
    return len(talk.bodies) > count


async def real_time_passes() -> None:
    await anyio.to_thread.run_sync(threading.Event().wait, 0.2)


@on_a_clock_that_stands
async def test_a_chunk_does_not_wait_while_the_clock_stands() -> None:
    """A chunk waits at most for as long as its burst is old, and that is no time. Pitfall 86."""
    agent = Agent()
    with freeze():
        async with agent.asked() as talk:
            for _ in range(5):
                wrote = partial(more_than, len(talk.bodies), talk)
                agent.speak()
                await talk.until(wrote)


@on_a_clock_that_stands
async def test_a_chunk_waits_for_a_clock_that_was_moved_and_stands_again() -> None:
    """After a step of less than `max_delay` the burst has an age, which the next chunk waits for.
    Pitfall 86."""
    agent = Agent(max_delay=0.05)
    with freeze() as frozen:
        async with agent.asked() as talk:
            agent.speak()
            await talk.until(lambda: talk.bodies)
            frozen.tick(0.03)
            agent.speak()
            await real_time_passes()
            assert len(talk.bodies) == 1
            frozen.tick(0.05)
            await talk.until(lambda: len(talk.bodies) == 2)


@on_a_clock_that_stands
async def test_no_chunk_waits_for_a_frozen_clock_without_a_delay() -> None:
    """With `max_delay=0` there is no timer to wait for, however the clock was moved. Pitfall 86."""
    agent = Agent(max_delay=0)
    with freeze() as frozen:
        async with agent.asked() as talk:
            agent.speak()
            await talk.until(lambda: talk.bodies)
            frozen.tick(0.03)
            agent.speak()
            await talk.until(lambda: len(talk.bodies) == 2)


@on_a_clock_that_stands
async def test_the_grace_period_does_not_pass_while_the_clock_stands() -> None:
    """An app that asked for its token goes on until the test moves the clock. Pitfall 86."""
    agent = Agent(grace_period=5)
    with freeze() as frozen:
        async with agent.asked() as talk:
            agent.speak()
            await talk.until(lambda: talk.bodies)
            talk.leave()
            await real_time_passes()
            assert not agent.stopped
            frozen.tick(6)
            await talk.ended()
    assert agent.stopped


@loops(REAL_TIME, because="freezegun's real_asyncio is about asyncio")
@pytest.mark.parametrize("frozen", LOOP_GOES_ON)
async def test_the_timers_go_on_if_only_the_time_of_day_is_frozen(
    frozen: Callable[[], AbstractContextManager[Any]],
) -> None:
    """`real_asyncio=True`, `tick=True` and time-machine leave the clock of the event loop running.
    Pitfall 86."""
    agent = Agent(grace_period=0.1)
    with frozen():
        async with agent.asked() as talk:
            agent.speak()
            await talk.until(lambda: talk.bodies)
            talk.leave()
            await talk.ended()
    assert agent.stopped
