"""The fault for which this package was written, and similar faults.

A server batched the deltas of its agent on a timer. The timer's task hit `ConnectionResetError`.
The exception was lost in that task, the main loop waited for items that never came, the agent was
never interrupted, and nothing was recorded.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Final

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from sse_batching import (
    CancelReason,
    ClientDisconnected,
    SSEBatchingMiddleware,
    StreamReport,
    current_token,
)
from sse_batching.testing import Conversation
from tests.conftest import REAL_TIME, loops
from tests.support.apps import chunk, last, start

pytestmark = [pytest.mark.anyio, loops(REAL_TIME, because="its app is built of asyncio's tasks")]

FIRST: Final = b"data: first\n\n"
SECOND: Final = b"data: second\n\n"
PATIENCE: Final = 10.0


class Agent:
    """A blocking agent that waits for its model in a thread. Only `interrupt` can end the wait."""

    def __init__(self) -> None:
        self.model: SimpleQueue[bytes | None] = SimpleQueue()
        self.interruptions: list[str] = []
        self.ended = threading.Event()

    def run(self, emit: Callable[[bytes], object]) -> None:
        try:
            while (delta := self.model.get(timeout=PATIENCE)) is not None:
                emit(delta)
        finally:
            self.ended.set()

    def interrupt(self, message: str) -> None:
        self.interruptions.append(message)
        self.model.put(None)


class Chat:
    """An app that streams the deltas of its agent, up to the last one."""

    def __init__(self, last_delta: bytes | None = None) -> None:
        self.agent = Agent()
        self.task: asyncio.Task[None]
        self.raised: BaseException | None = None
        self._last_delta = last_delta

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        deltas: asyncio.Queue[bytes] = asyncio.Queue()
        token = current_token()
        self.task = asyncio.create_task(
            asyncio.to_thread(
                self.agent.run, lambda delta: loop.call_soon_threadsafe(deltas.put_nowait, delta)
            )
        )
        token.register(self.agent.interrupt, "SSE client disconnected")
        token.register(self.task.cancel)
        await send(start())
        try:
            while True:
                delta = await deltas.get()  # endless once the agent is interrupted
                await send(last(delta) if delta == self._last_delta else chunk(delta))
        except BaseException as error:
            self.raised = error
            raise


async def check(chat: Chat, talk: Conversation, reports: list[StreamReport]) -> StreamReport:
    """Wait for the end. Check that the agent, its task and the report were informed once, and
    return the report."""
    await talk.ended()
    assert talk.error is None
    assert chat.agent.interruptions == ["SSE client disconnected"]
    with suppress(asyncio.CancelledError):
        await chat.task
    assert chat.task.cancelled()
    assert await asyncio.to_thread(chat.agent.ended.wait, PATIENCE)
    (report,) = reports
    assert report.outcome == "incomplete"
    assert (report.bytes_in, report.bytes_sent) == (len(FIRST + SECOND), len(FIRST))
    assert report.bytes_undelivered == len(SECOND)
    return report


def batched(chat: Chat, reports: list[StreamReport]) -> SSEBatchingMiddleware:
    return SSEBatchingMiddleware(chat, send_timeout=0.1, grace_period=0.1, on_close=reports.append)


async def test_stream_batched_delta_disconnect_interrupts_agent() -> None:
    """If a write fails in the background, while the app waits for its agent and sends nothing, the
    agent is interrupted, its task is cancelled, the bytes are counted, and nothing hangs.
    Pitfall 39."""
    chat = Chat()
    reports: list[StreamReport] = []
    reset = ConnectionResetError("connection reset by peer")
    async with Conversation(batched(chat, reports)) as talk:
        chat.agent.model.put(FIRST)
        await talk.until(lambda: talk.bodies)
        talk.fail_writes(reset)
        chat.agent.model.put(SECOND)
        report = await check(chat, talk, reports)
    assert (report.reason, report.error) == (CancelReason.SEND_FAILED, reset)
    assert isinstance(chat.raised, asyncio.CancelledError)


async def test_a_failure_of_the_final_flush_interrupts_the_agent() -> None:
    """The failing write is the last one, and the app waits for it."""
    chat = Chat(last_delta=SECOND)
    reports: list[StreamReport] = []
    reset = ConnectionResetError("connection reset by peer")
    async with Conversation(batched(chat, reports)) as talk:
        chat.agent.model.put(FIRST)
        await talk.until(lambda: talk.bodies)
        talk.fail_writes(reset)
        chat.agent.model.put(SECOND)
        report = await check(chat, talk, reports)
    assert (report.reason, report.error) == (CancelReason.SEND_FAILED, reset)
    assert isinstance(chat.raised, ClientDisconnected)
    assert chat.raised.__cause__ is reset


async def test_a_client_that_stops_reading_interrupts_the_agent() -> None:
    """A write that neither fails nor ends counts as failed after `send_timeout`."""
    chat = Chat()
    reports: list[StreamReport] = []
    async with Conversation(batched(chat, reports)) as talk:
        chat.agent.model.put(FIRST)
        await talk.until(lambda: talk.bodies)
        talk.stall()
        chat.agent.model.put(SECOND)
        report = await check(chat, talk, reports)
    assert report.reason is CancelReason.SEND_TIMEOUT


@pytest.mark.parametrize("leaves_first", [True, False])
async def test_a_failing_write_that_races_a_disconnect_interrupts_the_agent_once(
    leaves_first: bool,
) -> None:
    """A failure and a disconnect at the same time, in either order, interrupt the agent once."""
    chat = Chat()
    reports: list[StreamReport] = []
    reset = ConnectionResetError("connection reset by peer")

    async def fail(index: int, message: Message) -> None:
        if message.get("body") == SECOND:
            if leaves_first:
                talk.leave()
                await anyio.lowlevel.checkpoint()
            else:
                asyncio.get_running_loop().call_soon(talk.leave)
            raise reset

    async with Conversation(batched(chat, reports), on_send=fail) as talk:
        chat.agent.model.put(FIRST)
        await talk.until(lambda: talk.bodies)
        chat.agent.model.put(SECOND)
        report = await check(chat, talk, reports)
    assert report.reason in {CancelReason.SEND_FAILED, CancelReason.CLIENT_DISCONNECTED}
