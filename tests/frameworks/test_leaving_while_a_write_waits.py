"""In every framework: a client leaves that has not read for a while, so that a write waits for it.

Then the agent's generator is not at an await of its own, where a cancellation would close it, but
somewhere between the framework and the server.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator

import anyio.lowlevel
import pytest

from sse_batching._types import ASGIApp, Receive, Scope, Send
from tests.frameworks.jobs import Job, Setup, flooding
from tests.frameworks.setups import HEADERS, each_manner, each_setup
from tests.support.clients import Client
from tests.support.servers import PATIENCE, serving
from tests.support.streams import StallDetector, without_garbage_collection

# Django's file for the body of a request, where its handler was cut short: that shows in what comes
# afterwards.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def garbage_is_collected() -> Iterator[None]:
    """Here, and not in some later test."""
    yield
    gc.collect()


class EndDetector:
    """Stands between the server and an app, and tells when it has ended."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._ended = threading.Event()

    def ended(self) -> bool:
        """Wait for the end of a request, and what comes in the turns of the loop behind it."""
        return self._ended.wait(PATIENCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            if scope["type"] == "http":
                for _ in range(20):  # each generator in another one takes two to be closed
                    await anyio.lowlevel.checkpoint()
                self._ended.set()


def leave(setup: Setup, job: Job) -> bool:
    """Whether the generator has been closed when the request has ended."""
    ending = EndDetector(setup.make(job))
    stalling = StallDetector(ending)
    with (
        serving(stalling, socket_buffers=16_384) as port,
        Client(port, socket_buffers=16_384) as client,
    ):
        client.ask(headers=HEADERS)
        assert stalling.stalled()
        client.leave()
        assert ending.ended()
        return job.closed


@each_setup
@each_manner
@without_garbage_collection()
def test_generator_is_closed_or_the_framework_keeps_it(setup: Setup, ask: bool) -> None:
    """Nothing of the agent outlives the request, without a garbage collection; but for two
    frameworks that keep hold of its generator."""
    keeps = bool(setup.keeps) and ask is setup.keeps_if_asked
    assert leave(setup, Job(flooding, ask=ask)) is not keeps


@each_setup
def test_what_comes_afterwards_is_done_or_not(setup: Setup) -> None:
    """Background tasks run if they do so without the middleware."""
    bare, job = Job(flooding, bare=True), Job(flooding)
    for each in (bare, job):
        leave(setup, each)
    assert job.done is bare.done


@each_setup
def test_it_makes_no_traceback(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    """What the tasks of a framework make of it does not reach the server's log."""
    leave(setup, Job(flooding))
    assert [r for r in caplog.records if r.exc_info or r.levelno > logging.INFO] == []
