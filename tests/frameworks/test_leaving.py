"""In every framework, a client that leaves stops the agent, and its generator is closed."""

from __future__ import annotations

import logging
import time

import pytest

from sse_batching import CancelReason
from tests.frameworks.jobs import Job, Setup
from tests.frameworks.setups import (
    asked_or_not,
    begin,
    django_leaves_a_file_open,
    each_setup,
    each_that_listens,
    streaming,
)
from tests.support.clients import Client
from tests.support.servers import serving
from tests.support.streams import Agent, ticking, waiting, without_garbage_collection

pytestmark = django_leaves_a_file_open

PROMPT = 0.1
"""Seconds within which a generator must be closed (F10)."""

each_agent = pytest.mark.parametrize("agent", [ticking, waiting], ids=["ticking", "waiting"])


@each_setup
def test_token_is_cancelled_once(setup: Setup) -> None:
    """However often the app calls `send` after the disconnect, the token is cancelled once."""
    job = Job(ticking, ask=True)
    with streaming(setup, job):
        pass
    assert job.watched.cancellations == [
        (CancelReason.CLIENT_DISCONNECTED, "SSE client disconnected")
    ]


@each_that_listens
@each_agent
@asked_or_not
@without_garbage_collection()
def test_generator_is_closed_within_100_ms(setup: Setup, agent: Agent, ask: bool) -> None:
    """The time from the disconnect to the generator's `finally` includes the grace period of an app
    that ignores its token. The best of three counts, because the machine may be busy."""
    job = Job(agent, ask=ask)
    took: list[float] = []
    with serving(setup.make(job)) as port:
        while len(took) < 3 and min(took, default=PROMPT) >= PROMPT:
            with Client(port) as client:
                begin(client, setup)
                client.leave()
                left_at = time.monotonic()
                took.append(job.closed_at() - left_at)
    assert min(took) < PROMPT


@each_setup
def test_disconnect_makes_no_traceback(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    """The log has one INFO line of the middleware, and no logger warns of anything."""
    caplog.set_level(logging.INFO)
    with streaming(setup, Job(ticking)):
        pass
    assert [r.levelno for r in caplog.records if r.name == "sse_batching"] == [logging.INFO]
    assert [r for r in caplog.records if r.exc_info or r.levelno > logging.INFO] == []
