"""An app that never awaits anything cannot freeze the event loop (D7)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
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


async def others_get_on(turns: int = 10) -> None:
    """Another task of the same loop: a health check say. Fails if it is not let in."""
    with anyio.fail_after(5):
        for _ in range(turns):
            await anyio.sleep(0.001)


@pytest.mark.parametrize("chunks", ENDLESS.values(), ids=ENDLESS)
async def test_an_app_that_never_awaits_leaves_others_their_turn(
    chunks: Callable[[], Iterator[bytes]],
) -> None:
    """Whatever it sends, and though the server never makes it wait: others are served, and when
    the client leaves the app is stopped. Pitfall 7."""
    stopped = False

    async def work(emit: Emit) -> None:
        nonlocal stopped
        try:
            for body in chunks():
                await emit(body)
        finally:
            stopped = True

    async with Conversation(SSEBatchingMiddleware(streaming(work))) as talk:
        await others_get_on()
        talk.leave()
        await talk.ended()
    assert stopped
    assert talk.error is None


async def test_a_starlette_generator_that_never_awaits_leaves_others_their_turn() -> None:
    """The same through `StreamingResponse`, which by itself would never let go. Pitfall 7."""

    async def generate() -> AsyncIterator[bytes]:
        while True:
            yield b"data: token\n\n"

    response = StreamingResponse(generate(), media_type="text/event-stream")
    async with Conversation(SSEBatchingMiddleware(response)) as talk:
        await others_get_on()
        talk.leave()
        await talk.ended()
    assert talk.error is None


async def test_apps_that_never_await_share_the_loop() -> None:
    """Several of them at once are no worse: each gets on, and so does everybody else."""
    app = SSEBatchingMiddleware(streaming(endless))
    async with Conversation(app) as first, Conversation(app) as second:
        await others_get_on()
        await first.until(lambda: len(first.bodies) > 3)
        await second.until(lambda: len(second.bodies) > 3)


async def endless(emit: Emit) -> None:
    while True:
        await emit(b"data: token\n\n")


async def test_an_app_that_ignores_the_failure_of_its_sends_leaves_others_their_turn() -> None:
    """A loop that tries for ever to send to nobody is no reason to stop serving everybody else; and
    it is cancelled in the end."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        current_stream().token  # noqa: B018 - asking for it is what grants the grace period
        await send(start())
        for _ in range(300_000):
            with suppress(OSError):
                await send(chunk(b"data: token\n\n"))
        raise AssertionError("nobody has stopped this")

    async with Conversation(SSEBatchingMiddleware(app, grace_period=0.05)) as talk:
        await others_get_on()
        talk.leave()
        await others_get_on()
        await talk.ended()
    assert talk.error is None


@loops(VIRTUAL_TIME)
async def test_send_does_not_suspend_where_nothing_is_to_wait_for() -> None:
    """An app with some chunks at hand gets rid of them in one go: giving way has its price."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        for _ in range(100):
            assert ends_at_once(send(chunk(b"data: token\n\n")))
            await advance(0.02)

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await talk.ended()
    assert talk.error is None


@loops(VIRTUAL_TIME)
async def test_others_are_let_in_every_few_milliseconds() -> None:
    """The app gives way by the clock, not by the number of its chunks: 5 ms of work at a time."""
    turns: list[float] = []

    async def work(emit: Emit) -> None:
        for _ in range(100):
            spend(0.001)
            await emit(b"data: token\n\n")

    async def other() -> None:
        while True:
            turns.append(anyio.current_time())
            await anyio.lowlevel.checkpoint()

    async with (
        Conversation(SSEBatchingMiddleware(streaming(work))) as talk,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(other)
        await talk.ended()
        tasks.cancel_scope.cancel()
    gaps = [later - before for before, later in itertools.pairwise(turns)]
    assert max(gaps) <= 0.008
