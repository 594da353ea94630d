"""A client of a real uvicorn that reads slowly, or not at all."""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncIterator
from typing import Final

import pytest

from sse_batching import CancelReason
from tests.support.clients import Client
from tests.support.servers import KINDS, Kind, serving
from tests.support.streams import Agent, StallDetector, Watched, without_garbage_collection

each_kind = pytest.mark.parametrize("kind", KINDS)

SOCKET_BUFFERS: Final = 16_384
PART: Final = b"data: " + b"x" * 10_000 + b"\n\n"
MAX_BATCH_BYTES: Final = 65_536


def flood(parts: int | None = None) -> Agent:
    """Return an agent that sends as fast as it can: this many parts, or parts without end."""

    async def agent() -> AsyncIterator[bytes]:
        for _ in itertools.count() if parts is None else range(parts):
            yield PART

    return agent


@each_kind
def test_buffer_for_a_client_that_stops_reading_is_bounded(kind: Kind) -> None:
    """The bytes that the app has sent and the server has not taken are at most a batch and a chunk.
    Pitfall 57."""
    watched = Watched()
    app = watched.stream(flood(), send_timeout=0.2, max_batch_bytes=MAX_BATCH_BYTES)
    with (
        serving(app, kind, socket_buffers=SOCKET_BUFFERS) as port,
        Client(port, socket_buffers=SOCKET_BUFFERS) as client,
    ):
        client.ask()
        report = watched.report()
    assert 0 < report.bytes_undelivered <= MAX_BATCH_BYTES + len(PART)
    assert report.bytes_in == report.bytes_sent + report.bytes_undelivered


@each_kind
def test_client_that_stops_reading_times_out(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    """The token is cancelled with SEND_TIMEOUT, the generator is closed, and one line is logged.
    Pitfall 13."""
    caplog.set_level(logging.INFO)
    watched = Watched()
    app = watched.stream(flood(), ask=True, send_timeout=0.2, grace_period=0.05)
    with (
        serving(app, kind, socket_buffers=SOCKET_BUFFERS) as port,
        Client(port, socket_buffers=SOCKET_BUFFERS) as client,
    ):
        client.ask()
        assert watched.closed()
        assert watched.report().reason is CancelReason.SEND_TIMEOUT
    assert watched.cancellations == [
        (CancelReason.SEND_TIMEOUT, "SSE client does not read any more")
    ]
    assert [r.levelno for r in caplog.records if r.name == "sse_batching"] == [logging.INFO]
    # uvicorn logs a line, too: it closes the connection because the response is not complete.
    assert not any(record.exc_info for record in caplog.records)


@each_kind
def test_client_that_reads_again_gets_everything(kind: Kind) -> None:
    """A client that pauses makes the agent wait, and loses nothing."""
    parts = 100
    watched = Watched()
    app = StallDetector(watched.stream(flood(parts)))
    with (
        serving(app, kind, socket_buffers=SOCKET_BUFFERS) as port,
        Client(port, socket_buffers=SOCKET_BUFFERS) as client,
    ):
        client.ask()
        assert app.stalled()
        client.read_start()
        assert client.read_body() == PART * parts
        assert watched.report().outcome == "completed"


def leave_while_a_write_waits(app: StallDetector, kind: Kind) -> None:
    with (
        serving(app, kind, socket_buffers=SOCKET_BUFFERS) as port,
        Client(port, socket_buffers=SOCKET_BUFFERS) as client,
    ):
        client.ask()
        assert app.stalled()


@each_kind
def test_client_that_leaves_while_a_write_waits_for_it_is_noticed(kind: Kind) -> None:
    """uvicorn's `send` returns as if the client had read everything, but the token is cancelled.
    Pitfall 58."""
    watched = Watched()
    app = watched.stream(flood(), ask=True, grace_period=0.05)
    leave_while_a_write_waits(StallDetector(app), kind)
    assert [reason for reason, _ in watched.cancellations] == [CancelReason.CLIENT_DISCONNECTED]


@each_kind
@pytest.mark.parametrize("ask", [False, True], ids=["never-asked", "asked-and-goes-on"])
@without_garbage_collection()
def test_generator_is_closed_if_the_client_leaves_while_a_write_waits(
    kind: Kind, ask: bool
) -> None:
    """The generator's `finally` runs without a garbage collection."""
    watched = Watched()
    app = watched.stream(flood(), ask=ask, grace_period=0.05)
    leave_while_a_write_waits(StallDetector(app), kind)
    assert watched.closed()
