"""An app that never awaits anything cannot freeze the event loop (D7)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress

import anyio
import pytest
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware, current_stream
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import Emit, chunk, ends_at_once, start, streaming
from tests.support.virtual_time import advance, spend

pytestmark = pytest.mark.anyio

ENDLESS: dict[str, Callable[[], Iterator[bytes]]] = {
    "events": lambda: itertools.repeat(b"data: token\n\n"),
    "tiny": lambda: itertools.repeat(b"x"),
    "empty": lambda: itertools.repeat(b""),
    "one-and-then-empty": lambda: itertools.chain([b"x"], itertools.repeat(b"")),
    "huge": lambda: itertools.repeat(b"x" * 1_000_000),
}


async def other_tasks_run() -> None:
    """Do what another task of the same event loop does, a health check for example.

    Fails if the task does not get to run.
    """
    with anyio.fail_after(5):
        for _ in range(10):
            await anyio.sleep(0.001)


@pytest.mark.parametrize("chunks", ENDLESS.values(), ids=ENDLESS)
async def test_an_app_that_never_awaits_does_not_block_other_tasks(
    chunks: Callable[[], Iterator[bytes]],
) -> None:
    """Other tasks run beside an app that never awaits, whatever it sends, though the server never
    makes it wait. The app is stopped when its client leaves. Pitfall 7."""
    stopped = False

    async def work(emit: Emit) -> None:
        nonlocal stopped
        try:
            for body in chunks():
                await emit(body)
        finally:
            stopped = True

    async with Conversation(SSEBatchingMiddleware(streaming(work))) as talk:
        await other_tasks_run()
        talk.leave()
        await talk.ended()
    assert stopped
    assert talk.error is None


async def test_a_starlette_generator_that_never_awaits_does_not_block_other_tasks() -> None:
    """Other tasks run beside a `StreamingResponse` whose generator never awaits. Without the
    middleware it would never yield. Pitfall 7."""

    async def generate() -> AsyncGenerator[bytes]:
        while True:
            yield b"data: token\n\n"

    generator = generate()
    response = StreamingResponse(generator, media_type="text/event-stream")
    async with Conversation(SSEBatchingMiddleware(response)) as talk:
        await other_tasks_run()
        talk.leave()
        await talk.ended()
    assert talk.error is None
    await generator.aclose()  # trio warns of a generator that only the interpreter closes


async def test_apps_that_never_await_share_the_loop() -> None:
    """Several apps that never await all make progress, and so do other tasks."""
    app = SSEBatchingMiddleware(streaming(endless))
    async with Conversation(app) as first, Conversation(app) as second:
        await other_tasks_run()
        await first.until(lambda: len(first.bodies) > 3)
        await second.until(lambda: len(second.bodies) > 3)


async def endless(emit: Emit) -> None:
    while True:
        await emit(b"data: token\n\n")


async def test_an_app_that_ignores_failed_sends_does_not_block_other_tasks() -> None:
    """An app that goes on sending after its client has left does not block other tasks, and is
    cancelled in the end."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        current_stream().token  # noqa: B018 (only an app that asks gets a grace period)
        await send(start())
        for _ in range(300_000):
            with suppress(OSError):
                await send(chunk(b"data: token\n\n"))
        raise AssertionError("the app was not stopped")

    async with Conversation(SSEBatchingMiddleware(app, grace_period=0.05)) as talk:
        await other_tasks_run()
        talk.leave()
        await other_tasks_run()
        await talk.ended()
    assert talk.error is None


@loops(VIRTUAL_TIME)
async def test_send_does_not_suspend_without_need() -> None:
    """`send` does not yield to other tasks unless the app has run too long. To yield costs time."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        for _ in range(100):
            assert ends_at_once(send(chunk(b"data: token\n\n")))
            await advance(0.02)

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await talk.ended()
    assert talk.error is None


@loops(VIRTUAL_TIME)
async def test_an_app_that_never_awaits_yields_every_few_milliseconds() -> None:
    """`send` yields when the app has run for a few milliseconds, whatever the number of its chunks.
    No other task waits longer than 8 ms."""
    iterations: list[float] = []

    async def work(emit: Emit) -> None:
        for _ in range(100):
            spend(0.001)
            await emit(b"data: token\n\n")

    async def other() -> None:
        while True:
            iterations.append(anyio.current_time())
            await anyio.lowlevel.checkpoint()

    async with (
        Conversation(SSEBatchingMiddleware(streaming(work))) as talk,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(other)
        await talk.ended()
        tasks.cancel_scope.cancel()
    gaps = [later - before for before, later in itertools.pairwise(iterations)]
    assert max(gaps) <= 0.008
