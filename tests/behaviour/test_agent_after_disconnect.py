"""What an agent does once it has been told that its client has left: it may need its model for it.

The bill comes last, and so does the end of a sentence. An app that has asked for its token is let
alone for the grace period, and not a moment longer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from sse_batching import CancellationToken, SSEBatchingMiddleware, current_token
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import chunk, start
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

GRACE = 5.0
PARTS = 8


async def model(parts: float) -> AsyncIterator[bytes]:
    """A part each 0.5 seconds; an endless one if they are infinitely many."""
    number = 0
    while number < parts:
        number += 1
        await advance(0.5)
        yield b"data: %d\n\n" % number


class Draining:
    """An app that sends no more once its client has left, and goes on reading from its model."""

    def __init__(self, parts: float, then: float = 0) -> None:
        self.drained: list[bytes] = []
        self.ended_at: float | None = None
        self._parts = parts
        self._then = then

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        await send(start())
        try:
            async for part in model(self._parts):
                if token.cancelled:
                    self.drained.append(part)
                else:
                    await send(chunk(part))
            await anyio.sleep(self._then)
        finally:
            self.ended_at = anyio.current_time()


async def test_the_model_can_be_read_to_its_end() -> None:
    """The cancellation of the token does not break into the wait for the model. Pitfall 24."""
    app = Draining(PARTS)
    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await advance(1.25)
        talk.leave()
        await talk.ended()
    assert app.drained == [b"data: %d\n\n" % number for number in range(3, PARTS + 1)]
    assert talk.error is None


@pytest.mark.parametrize(
    ("parts", "then"),
    [(float("inf"), 0), (0, 1000), (PARTS, 1000)],
    ids=["endless", "silent", "falls-silent"],
)
async def test_a_model_without_an_end_is_read_for_the_grace_period_only(
    parts: float, then: float
) -> None:
    """Its end is up to the clock, not to the next part, which may never come. Pitfall 25."""
    app = Draining(parts, then)
    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await advance(1.25)
        left_at = anyio.current_time()
        talk.leave()
        await talk.ended()
    assert app.ended_at == pytest.approx(left_at + GRACE)


async def test_a_retry_that_begins_after_the_client_has_left_is_told_at_once() -> None:
    """A token stays cancelled: whoever looks, waits or registers later is not too late.
    Pitfall 19."""
    attempts: list[float] = []
    called_off: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        await send(start())
        for _ in range(3):
            await attempt(token)

    async def attempt(token: CancellationToken) -> None:
        began = anyio.current_time()
        with token.register(called_off.append, True):
            await token.wait_async()
        attempts.append(anyio.current_time() - began)

    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await advance(2)
        talk.leave()
        await talk.ended()
    assert attempts == [2, 0, 0]
    assert called_off == [True] * 3
