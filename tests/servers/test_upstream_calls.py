"""A generator's call to the server of a model is closed when the reader leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from starlette.responses import StreamingResponse

from sse_batching import SSEBatchingMiddleware
from sse_batching.testing import Conversation
from tests.support.servers import serving
from tests.support.streams import EVENT_STREAM, Watched, ticking

pytestmark = pytest.mark.anyio


@pytest.fixture
def model() -> Iterator[str]:
    """Yield the address of a server that streams without end."""
    with serving(Watched().stream(ticking)) as port:
        yield f"http://127.0.0.1:{port}/"


async def test_upstream_call_returns_its_connection_to_the_pool(model: str) -> None:
    """A pool with a single connection serves one call after another. Pitfall 32."""
    limits = httpx.Limits(max_connections=1)
    timeout = httpx.Timeout(10, pool=2)
    async with httpx.AsyncClient(limits=limits, timeout=timeout, trust_env=False) as client:

        async def relay() -> AsyncIterator[bytes]:
            async with client.stream("GET", model) as upstream:
                async for part in upstream.aiter_bytes():
                    yield part

        async def read_and_leave() -> None:
            response = StreamingResponse(relay(), media_type=EVENT_STREAM)
            async with Conversation(SSEBatchingMiddleware(response)) as talk:
                await talk.until(lambda: talk.bodies)
                talk.leave()
                await talk.ended()
            assert talk.error is None

        for _ in range(3):
            await read_and_leave()
