"""No state is kept for the whole process, neither by the import nor by a shutdown."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from sse_batching import CancellationToken, CancelReason, SSEBatchingMiddleware, current_token
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import converse, emitting
from tests.support.endings import CANCELLED, Ticking
from tests.support.servers import REPOSITORY
from tests.support.virtual_time import advance

IMPORT: Final = """
import asyncio, signal, starlette.applications, starlette.responses, threading, trio, uvicorn

def look():
    owners = [
        uvicorn.Server, uvicorn.Config, asyncio, asyncio.BaseEventLoop, trio, threading, signal,
        starlette.applications.Starlette, starlette.responses.StreamingResponse,
    ]
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    return [dict(vars(owner)) for owner in owners], handlers, threading.enumerate()

before = look()
import sse_batching
assert look() == before
"""


def test_an_import_changes_nothing_of_others() -> None:
    """The import replaces no method of a server or an event loop, handles no signal and starts no
    thread. So it does not matter when the package is imported. Pitfall 48."""
    subprocess.run([sys.executable, "-c", IMPORT], cwd=REPOSITORY, check=True, timeout=30)


@pytest.mark.anyio
@loops(VIRTUAL_TIME)
async def test_a_shutdown_is_over_with_the_requests_that_it_ended() -> None:
    """The next server in the process can serve the same app. Pitfall 52."""
    tokens: list[CancellationToken] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        tokens.append(current_token())
        await emitting(b"a", 1.0, b"b")(scope, receive, send)

    middleware = SSEBatchingMiddleware(app)
    async with Conversation(middleware) as talk:
        await advance(0.5)
        CANCELLED.provoke(talk)
        await talk.ended()
    later = await converse(middleware)
    assert later.body == b"ab"
    assert [token.reason for token in tokens] == [CancelReason.SERVER_SHUTDOWN, None]


@pytest.mark.anyio
@loops(VIRTUAL_TIME)
async def test_a_stream_that_is_cut_leaves_its_neighbours_alone() -> None:
    """A stream that the server cancels does not end other streams. Pitfall 52."""
    cut, kept = Ticking(), Ticking()
    async with Conversation(SSEBatchingMiddleware(kept)) as neighbour:
        async with Conversation(SSEBatchingMiddleware(cut)) as talk:
            await advance(1)
            CANCELLED.provoke(talk)
            await talk.ended()
        await anyio.sleep(10)
        assert kept.token is not None
        assert not kept.token.cancelled
        assert len(neighbour.body.splitlines()) > 20
    assert [reason for reason, *_ in cut.cancellations] == [CancelReason.SERVER_SHUTDOWN]
