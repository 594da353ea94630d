"""Batches that the timer's callback writes, without waking the stream's task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from sse_batching import (
    ClientDisconnected,
    SSEBatchingMiddleware,
    StreamReport,
    current_stream,
    current_token,
)
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_ASYNCIO, VIRTUAL_TIME, loops
from tests.support.apps import Emit, converse, emitting, streaming, times
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

DELAY: Final = 0.25

whose: ContextVar[str] = ContextVar("whose")

STEADY: Final = (b"0", 0.1875, b"1", 0.0625, b"2", 0.1875, b"3", 0.125, b"4", 1.0)
"""Chunks that are written at 0, and by the timer at 0.375 and 0.6875."""


async def test_each_write_is_made_in_the_context_of_its_own_request() -> None:
    """Streams share a timer, but each write sees the context variables of its own request, such as
    a trace or the name of a user."""
    seen: dict[str, list[str]] = {"one": [], "two": []}

    def outer(name: str) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        middleware = SSEBatchingMiddleware(emitting(*STEADY), max_delay=DELAY)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            async def traced(message: Message) -> None:
                seen[name].append(whose.get("nobody's"))
                await send(message)

            whose.set(name)
            await middleware(scope, receive, traced)

        return app

    async with anyio.create_task_group() as group:
        for name in seen:
            group.start_soon(converse, outer(name))

    assert seen == {"one": ["one"] * 5, "two": ["two"] * 5}


async def test_a_write_by_the_timer_that_has_to_wait_is_made_once() -> None:
    """The task finishes a write that the timer began. Chunks that come meanwhile are one batch."""
    calls: list[bytes] = []

    async def wait(number: int, message: Message) -> None:
        calls.append(message.get("body", b""))
        if calls[-1] == b"12":
            with anyio.move_on_after(100):
                await advance(0.25)

    talk = await converse(SSEBatchingMiddleware(emitting(*STEADY), max_delay=DELAY), on_send=wait)

    assert calls == [b"", b"0", b"12", b"34", b""]
    assert times(talk) == [(0, b"0"), (0.625, b"12"), (0.625, b"34")]


async def test_a_write_by_the_timer_that_fails_is_a_failed_write() -> None:
    """A failed write of the timer cancels the token at once, and the next `send` raises the
    error."""
    lost, causes = OSError("lost"), list[BaseException | None]()
    noted: list[object] = []

    async def fail(number: int, message: Message) -> None:
        if message.get("body") == b"12":
            raise lost

    async def work(emit: Callable[[bytes], Awaitable[None]]) -> None:
        token = current_token()
        token.register(lambda: noted.append(anyio.current_time()))
        began = anyio.current_time()
        for body, pause in ((b"0", 0.1875), (b"1", 0.0625), (b"2", 1.0)):
            await emit(body)
            await advance(pause)
        noted.append(began)
        try:
            await emit(b"3")
        except ClientDisconnected as error:
            causes.append(error.__cause__)
            raise

    await converse(SSEBatchingMiddleware(streaming(work), max_delay=DELAY), on_send=fail)

    assert causes == [lost]
    at, began = noted
    assert isinstance(at, float)
    assert isinstance(began, float)
    assert at - began == pytest.approx(0.375)


@pytest.mark.parametrize("late", [0.0, 0.125], ids=["in-the-same-moment", "later"])
async def test_a_write_that_the_timer_began_is_cut_short_when_the_client_leaves(
    late: float,
) -> None:
    """A write that the timer began is cancelled when the client leaves. Its cleanup runs, and
    nothing is left."""
    log: list[str] = []
    talk: Conversation

    async def stuck(number: int, message: Message) -> None:
        if message.get("body") == b"12":
            try:
                if not late:
                    talk.leave()
                await anyio.sleep_forever()
            finally:
                log.append("finally")

    app = SSEBatchingMiddleware(emitting(*STEADY, b"5", 100.0), max_delay=DELAY)
    async with Conversation(app, on_send=stuck) as talk:
        await advance(0.4375 + late)
        talk.leave()
        await talk.ended()

    assert log == ["finally"]
    assert talk.bodies == [b"0"]


async def test_a_writer_that_is_given_up_in_a_write_by_the_timer_ends() -> None:
    """The server's `send` may close the stream itself, and still have to wait afterwards."""
    log: list[str] = []
    cancel: list[Callable[[], object]] = []

    async def found_out(number: int, message: Message) -> None:
        if message.get("body") == b"12":
            try:
                cancel[0]()
                await advance(0.125)
            finally:
                log.append("finally")

    async def work(emit: Callable[[bytes], Awaitable[None]]) -> None:
        cancel.append(current_token().cancel)
        for body, pause in ((b"0", 0.1875), (b"1", 0.0625), (b"2", 1.0)):
            await emit(body)
            await advance(pause)

    talk = await converse(
        SSEBatchingMiddleware(streaming(work), max_delay=DELAY), on_send=found_out
    )

    assert log == ["finally"]
    assert talk.bodies[0] == b"0"


async def test_a_write_that_the_timer_began_may_stall() -> None:
    """A write that the timer began stalls like any other, if the client stops reading."""

    async def stall(number: int, message: Message) -> None:
        if message.get("body") == b"12":
            await anyio.sleep_forever()

    reports: list[StreamReport] = []
    middleware = SSEBatchingMiddleware(
        emitting(*STEADY), max_delay=DELAY, send_timeout=5.0, on_close=reports.append
    )
    await converse(middleware, on_send=stall)

    assert [report.reason for report in reports] == ["send_timeout"]
    assert reports[0].duration == pytest.approx(5.375)


async def together(**streams: Callable[[Emit], Awaitable[None]]) -> dict[str, Conversation]:
    """Run streams side by side in one event loop, and return when each chunk was written."""
    talks: dict[str, Conversation] = {}

    async def one(name: str, work: Callable[[Emit], Awaitable[None]]) -> None:
        talks[name] = await converse(SSEBatchingMiddleware(streaming(work), max_delay=DELAY))

    async with anyio.create_task_group() as group:
        for name, work in streams.items():
            group.start_soon(one, name, work)
    return talks


@loops(VIRTUAL_ASYNCIO, because="on trio each stream writes in a task of its own")
async def test_a_stream_whose_end_raises_does_not_keep_another_stream_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A logging filter of the app's may raise in the timer's callback, when a write has failed. The
    exception reaches the exception handler of the event loop, and neighbours are written on
    time."""
    loop, unseen = asyncio.get_running_loop(), list[object]()
    broken = ValueError("the filter is broken")

    def fail(record: logging.LogRecord) -> bool:
        raise broken

    async def gone(number: int, message: Message) -> None:
        if message.get("body") == b"1":
            raise ConnectionResetError

    async def stream(on_send: Callable[[int, Message], Awaitable[None]] | None) -> None:
        app = SSEBatchingMiddleware(emitting(b"0", 0.1875, b"1", 1.0), max_delay=DELAY)
        talks.append(await converse(app, on_send=on_send))

    talks = list[Conversation]()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda loop, context: unseen.append(context.get("exception")))
    logger = logging.getLogger("sse_batching")
    logger.addFilter(fail)
    try:
        with caplog.at_level(logging.INFO, "sse_batching"):
            async with anyio.create_task_group() as group:
                for on_send in (gone, None, None):
                    group.start_soon(stream, on_send)
    finally:
        logger.removeFilter(fail)
        loop.set_exception_handler(before)

    assert unseen == [broken]
    assert sorted(map(times, talks)) == [
        [(0, b"0")],
        *[[(0, b"0"), (0.375, b"1")]] * 2,
    ]


async def test_a_batch_that_went_early_does_not_keep_another_stream_waiting() -> None:
    """After a flush, the next batch of the stream waits behind the batches that began before it."""

    async def flushes(emit: Emit) -> None:
        await emit(b"0")
        await advance(0.1875)
        await emit(b"1")  # due at 0.375, and flushed at 0.203125
        await advance(0.015625)
        await current_stream().flush()
        await advance(0.109375)
        await emit(b"2")  # at 0.3125, due at 0.5625
        await advance(1.0)

    async def waits(emit: Emit) -> None:
        await emit(b"0")
        await advance(0.21875)
        await emit(b"1")  # due at 0.4375
        await advance(1.0)

    talks = await together(flushes=flushes, waits=waits)

    assert times(talks["waits"]) == [(0, b"0"), (0.4375, b"1")]
    assert times(talks["flushes"])[2:] == [(0.5625, b"2")]


async def test_a_young_burst_does_not_wait_behind_an_older_stream() -> None:
    """A batch that is due before those ahead of it in its timer queue is written first."""

    async def older(emit: Emit) -> None:
        for body, pause in ((b"0", 0.1875), (b"1", 0.21875), (b"2", 1.0)):
            await emit(body)
            await advance(pause)  # 2 comes at 0.40625, and is due at 0.65625

    async def younger(emit: Emit) -> None:
        await advance(0.4375)
        await emit(b"0")
        await advance(0.03125)
        await emit(b"1")  # at 0.46875, due at 0.5
        await advance(1.0)

    talks = await together(older=older, younger=younger)

    assert times(talks["older"]) == [(0, b"0"), (0.375, b"1"), (0.65625, b"2")]
    assert times(talks["younger"]) == [(0.4375, b"0"), (0.5, b"1")]


@pytest.mark.parametrize("changes", [False, True], ids=["stays", "changes"])
async def test_a_stream_with_a_longer_delay_does_not_keep_others_waiting(changes: bool) -> None:
    """Each delay has a timer queue of its own."""

    async def longer(emit: Emit) -> None:
        current_stream().configure(max_delay=1.0)
        await emit(b"0")
        await advance(0.75)
        await emit(b"1")  # due at 1.5
        await advance(2.0)

    async def usual(emit: Emit) -> None:
        await advance(0.625)
        await emit(b"0")
        await advance(0.1875)
        await emit(b"1")  # at 0.8125, due at 1
        await advance(0.125)
        if changes:
            current_stream().configure(max_delay=1.0)  # the waiting batch is not postponed
        await advance(1.0)

    talks = await together(longer=longer, usual=usual)

    assert times(talks["usual"]) == [(0.625, b"0"), (1, b"1")]
    assert times(talks["longer"]) == [(0, b"0"), (1.5, b"1")]


async def test_a_longer_delay_does_not_postpone_the_waiting_batch() -> None:
    """A longer delay does not postpone the waiting batch, and its old deadline has no later
    effect."""

    async def work(emit: Callable[[bytes], Awaitable[None]]) -> None:
        await emit(b"0")
        await advance(0.1875)
        await emit(b"1")  # due at 0.375
        current_stream().configure(max_delay=1.0)
        await advance(0.125)
        await emit(b"2")  # with 1
        await advance(0.9375)
        await emit(b"3")  # at 1.25, due at 2.25
        await advance(2.0)

    talk = await converse(SSEBatchingMiddleware(streaming(work), max_delay=DELAY))

    assert times(talk) == [(0, b"0"), (0.375, b"12"), (2.25, b"3")]


async def test_a_flush_leaves_no_deadline_behind() -> None:
    """A batch that was taken early leaves no deadline behind: the next batch waits for its own."""

    async def work(emit: Callable[[bytes], Awaitable[None]]) -> None:
        await emit(b"0")
        await advance(0.1875)
        await emit(b"1")  # due at 0.375
        await current_stream().flush()
        await advance(0.125)
        await emit(b"2")  # at 0.3125, due at 0.5625
        await advance(2.0)

    talk = await converse(SSEBatchingMiddleware(streaming(work), max_delay=DELAY))

    assert times(talk) == [(0, b"0"), (0.1875, b"1"), (0.5625, b"2")]
