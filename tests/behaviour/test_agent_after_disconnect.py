"""An agent may go on reading from its model for the grace period after its client has left.

The model reports its token counts last, and sentences end late. So an app that has asked for its
token is neither cancelled nor otherwise disturbed in its grace period. After that it is cancelled.
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
    """Yield so many parts, one each 0.5 seconds. `parts` may be infinite."""
    number = 0
    while number < parts:
        number += 1
        await advance(0.5)
        yield b"data: %d\n\n" % number


class Draining:
    """An app that reads on from its model once its client has left, and sends nothing more."""

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
    """Cancelling the token does not interrupt an app that waits for its model. Pitfall 24."""
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
    """The app is cancelled at the end of the grace period, also if no other part comes from the
    model. Pitfall 25."""
    app = Draining(parts, then)
    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await advance(1.25)
        left_at = anyio.current_time()
        talk.leave()
        await talk.ended()
    assert app.ended_at == pytest.approx(left_at + GRACE)


async def test_a_retry_after_the_client_has_left_is_interrupted_at_once() -> None:
    """A token stays cancelled: later calls of `wait_async` return at once, and callbacks that are
    registered later are called at once. Pitfall 19."""
    attempts: list[float] = []
    interrupted: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        await send(start())
        for _ in range(3):
            await attempt(token)

    async def attempt(token: CancellationToken) -> None:
        began = anyio.current_time()
        with token.register(interrupted.append, True):
            await token.wait_async()
        attempts.append(anyio.current_time() - began)

    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await advance(2)
        talk.leave()
        await talk.ended()
    assert attempts == [2, 0, 0]
    assert interrupted == [True] * 3
