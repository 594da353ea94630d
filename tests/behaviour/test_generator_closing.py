"""However a stream ends, the app's generator is closed promptly (F10).

That needs no garbage collection. A collection may come much later, and until then the generator of
an agent would keep its connection, its lock and its half-written answer.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware, current_token
from sse_batching._loop import current_loop
from sse_batching.testing import Conversation
from tests.conftest import UVLOOP, loops
from tests.support.apps import chunk, last, start
from tests.support.endings import CANCELLED, FAILED, LEFT, STALLED, Cause

pytestmark = [
    pytest.mark.anyio,
    # Trio warns of every generator that only the interpreter closes. To close it is the task of the
    # framework or the app. These tests want it to be closed at once.
    pytest.mark.filterwarnings("ignore:Async generator .* was garbage collected:ResourceWarning"),
]

SEND_TIMEOUT = 0.05


@pytest.fixture(autouse=True)
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Agent:
    """Generators of four kinds, and an event that the `finally` of the one that ran has set."""

    def __init__(self) -> None:
        self.resumed = 0
        self.closed = anyio.Event()
        self._loop = current_loop()

    async def awaiting(self) -> AsyncIterator[bytes]:
        """Generate chunks, and wait at an `await` of its own between them."""
        try:
            while True:
                yield b"data: 1\n\n"
                await anyio.sleep(0.04)  # not a divisor of the timeouts here
        finally:
            self.closed.set()

    async def tight(self) -> AsyncIterator[bytes]:
        """Generate chunks without awaiting. It is at its `yield` whenever other tasks run."""
        try:
            while True:
                yield b"data: 1\n\n"
        finally:
            self.closed.set()

    async def bulky(self) -> AsyncIterator[bytes]:
        """Generate chunks so large that it is at its `yield` while `send` waits for the client."""
        try:
            while True:
                yield b"x" * 100_000
        finally:
            self.closed.set()

    def synchronous(self) -> Iterator[bytes]:
        """Generate chunks in a thread."""
        try:
            while True:
                self.resumed += 1
                yield b"data: 1\n\n"
        finally:
            # The garbage collection may run in any thread.
            self._loop.run_in_loop(self.closed.set)

    async def is_closed(self) -> None:
        with anyio.fail_after(2):
            await self.closed.wait()


Kind = Callable[[Agent], Any]

KINDS = [Agent.awaiting, Agent.tight, Agent.bulky]
CAUSES = [LEFT, FAILED, STALLED, CANCELLED]


def starlette(agent: Agent, kind: Kind, *, asks: bool = False) -> ASGIApp:
    async def endpoint(request: Request) -> Response:
        if asks:
            current_token()
        return StreamingResponse(kind(agent), media_type="text/event-stream")

    return Starlette(routes=[Route("/", endpoint)])


def raw(agent: Agent, kind: Kind) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        async for body in kind(agent):
            await send(chunk(body))
        await send(last())

    return app


def base_http(app: ASGIApp) -> ASGIApp:
    async def dispatch(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response

    return BaseHTTPMiddleware(app, dispatch)


def batched(app: ASGIApp) -> ASGIApp:
    return SSEBatchingMiddleware(app, max_delay=0.01, send_timeout=SEND_TIMEOUT, grace_period=0.05)


async def end(talk: Conversation, cause: Cause, kind: Kind) -> None:
    await talk.until(lambda: talk.bodies)
    if kind is Agent.bulky:
        talk.stall()
        await talk.until(lambda: talk.in_send)
    cause.provoke(talk)
    if cause in (FAILED, CANCELLED):
        talk.resume()


@pytest.mark.parametrize("cause", CAUSES, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
async def test_a_generator_of_starlette_is_closed(kind: Kind, cause: Cause) -> None:
    """A generator in a plain `StreamingResponse`, the usual case, is closed. Pitfall 23."""
    agent = Agent()
    async with Conversation(batched(starlette(agent, kind))) as talk:
        await end(talk, cause, kind)
        await talk.ended()
        await agent.is_closed()
    assert talk.error is None


async def test_a_generator_whose_send_had_to_wait_is_cancelled_at_its_own_await() -> None:
    """A generator is cancelled at its own `await`, also if its `send` had to wait for the client.

    There it can catch the cancellation and clean up, as without the middleware. At its `yield` it
    would only see `GeneratorExit`.
    """
    ended_at: list[str] = []

    async def generate() -> AsyncIterator[bytes]:
        try:
            yield b"data: 1\n\n"
            talk.stall()
            yield b"x" * 100_000
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            ended_at.append("await")
            raise
        except GeneratorExit:
            ended_at.append("yield")
            raise

    response = StreamingResponse(generate(), media_type="text/event-stream")
    async with Conversation(batched(response)) as talk:
        await talk.until(lambda: talk.in_send and talk.sent)
        await anyio.wait_all_tasks_blocked()
        talk.leave()
        await talk.ended()
    assert ended_at == ["await"]


@pytest.mark.parametrize("cause", CAUSES, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
async def test_a_generator_of_an_app_that_has_a_token_is_closed(kind: Kind, cause: Cause) -> None:
    """If the app asked for its token and ignores it, its generator is closed after the grace
    period."""
    agent = Agent()
    async with Conversation(batched(starlette(agent, kind, asks=True))) as talk:
        await end(talk, cause, kind)
        await talk.ended()
        await agent.is_closed()
    assert talk.error is None


@pytest.mark.parametrize("cause", CAUSES, ids=str)
async def test_a_generator_inside_a_base_http_middleware_is_closed(cause: Cause) -> None:
    """A generator that awaits is closed inside `BaseHTTPMiddleware`, which runs the app in another
    task, behind a queue.

    A generator that never awaits, or whose `send` waits, is suspended in that queue. Starlette
    itself leaves it to the garbage collection. Pitfall 11.
    """
    agent = Agent()
    async with Conversation(batched(base_http(starlette(agent, Agent.awaiting)))) as talk:
        await end(talk, cause, Agent.awaiting)
        await talk.ended()
        await agent.is_closed()
    assert talk.error is None


@loops([UVLOOP], because="each takes a second of real time")
@pytest.mark.parametrize("cause", CAUSES, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
async def test_a_generator_behind_an_outer_base_http_middleware_is_closed(
    kind: Kind, cause: Cause
) -> None:
    """A generator is closed also if an outer `BaseHTTPMiddleware` replaces `receive` and `send` of
    the server. That middleware does not end by itself while the client stalls. Pitfall 11."""
    agent = Agent()
    async with Conversation(base_http(batched(starlette(agent, kind)))) as talk:
        await end(talk, cause, kind)
        await agent.is_closed()
        talk.resume()
        await talk.ended()
    assert talk.error in (None, cause.error)


@pytest.mark.parametrize("cause", CAUSES, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
async def test_a_generator_of_a_raw_app_is_closed(kind: Kind, cause: Cause) -> None:
    """A generator in a plain `async for`, which nothing closes, is closed when `send` raises.

    It is closed because no reference to the exception, and so to the generator, is kept.
    Pitfall 23.
    """
    agent = Agent()
    async with Conversation(batched(raw(agent, kind))) as talk:
        await end(talk, cause, kind)
        await talk.ended()
        await agent.is_closed()
    assert talk.error is None


@pytest.mark.parametrize("cause", CAUSES, ids=str)
async def test_a_generator_in_a_thread_is_not_resumed(cause: Cause) -> None:
    """A plain generator, which Starlette runs in threads, is not resumed after the disconnect.

    Starlette itself leaves the closing of it to the garbage collection.
    """
    agent = Agent()
    async with Conversation(batched(starlette(agent, Agent.synchronous))) as talk:
        await end(talk, cause, Agent.synchronous)
        await talk.ended()
    resumed = agent.resumed
    await anyio.sleep(0.02)
    assert agent.resumed == resumed
    gc.collect()
    await agent.is_closed()


@pytest.mark.parametrize("make", [starlette, raw])
async def test_a_generator_that_raises_is_closed(make: Any) -> None:
    """A generator that raises has closed itself, and its exception goes on to the server (D5)."""
    agent = Agent()

    async def failing(agent: Agent) -> AsyncIterator[bytes]:
        async for body in agent.awaiting():
            yield body
            raise ValueError("an error of the generator")

    async with Conversation(batched(make(agent, failing))) as talk:
        await talk.ended()
        assert isinstance(talk.error, ValueError)
        talk.error = None  # the server has logged the exception, and drops it
        await agent.is_closed()


async def test_a_generator_of_an_app_that_raises_is_closed() -> None:
    """If the app raises between two chunks, its generator is closed when the server drops the
    exception, which refers to the generator."""
    agent = Agent()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        async for body in agent.awaiting():
            await send(chunk(body))
            raise ValueError("an error of the app")

    async with Conversation(batched(app)) as talk:
        await talk.ended()
        assert isinstance(talk.error, ValueError)
        talk.error = None
        await agent.is_closed()
