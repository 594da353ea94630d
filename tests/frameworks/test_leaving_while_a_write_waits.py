"""In every framework, a client leaves that has stopped reading, while a write waits for it.

The agent's generator is then suspended at its `yield`, and the framework waits in `send`. A
cancellation there does not close the generator, as it would at an `await` of the generator's own.
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
from tests.frameworks.setups import (
    HEADERS,
    asked_or_not,
    django_leaves_a_file_open,
    each_setup,
    each_that_listens,
)
from tests.support.clients import Client
from tests.support.servers import PATIENCE, serving
from tests.support.streams import StallDetector, without_garbage_collection

pytestmark = django_leaves_a_file_open


@pytest.fixture(autouse=True)
def garbage_is_collected() -> Iterator[None]:
    """Collect the garbage of a test at its end, and not in some later test."""
    yield
    gc.collect()


class EndDetector:
    """ASGI middleware that detects when the app has ended."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._ended = threading.Event()

    def ended(self) -> bool:
        """Wait for the end of a request and some loop iterations. Return False if none ends."""
        return self._ended.wait(PATIENCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            if scope["type"] == "http":
                for _ in range(20):  # each generator inside another takes two to be closed
                    await anyio.lowlevel.checkpoint()
                self._ended.set()


def leave(setup: Setup, job: Job) -> bool:
    """Leave while a write waits. Return True if the generator is closed when the request ends."""
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
@asked_or_not
@without_garbage_collection()
def test_generator_is_closed_unless_the_framework_keeps_it_open(setup: Setup, ask: bool) -> None:
    """The generator's `finally` runs without a garbage collection, except in two frameworks that
    keep hold of the generator."""
    stays_open = bool(setup.stays_open_because) and ask is setup.stays_open_if_asked
    assert leave(setup, Job(flooding, ask=ask)) is not stays_open


@each_that_listens
def test_background_task_runs_as_without_the_middleware(setup: Setup) -> None:
    """Frameworks differ: some run their background tasks here, and some do not."""
    bare, job = Job(flooding, bare=True), Job(flooding)
    for each in (bare, job):
        leave(setup, each)
    assert job.done is bare.done


@each_setup
def test_disconnect_during_a_write_makes_no_traceback(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in a task of the framework does not reach the log."""
    leave(setup, Job(flooding))
    assert [r for r in caplog.records if r.exc_info or r.levelno > logging.INFO] == []
