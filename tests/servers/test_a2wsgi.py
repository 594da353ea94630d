"""A WSGI app that the real a2wsgi runs in its threads, on a real uvicorn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from a2wsgi import WSGIMiddleware

from sse_batching import CancelReason, SSEBatchingMiddleware, StreamReport, current_token
from sse_batching._types import Message, Receive, Scope, Send
from tests.support.clients import WAYS_TO_LEAVE, Client, Leave
from tests.support.servers import KINDS, PATIENCE, Kind, serving

EVENT = b"data: 0\n\n"
LARGE_EVENT = b"data: " + b"x" * 10_000 + b"\n\n"
MANY = 200
"""Chunks. a2wsgi's queue holds 10, and the kernel's small buffers hold less than 2 MB."""

StartResponse = Callable[[str, list[tuple[str, str]]], object]


class Mount:
    """A mount of a2wsgi's with one thread: one request whose thread never ends would block it."""

    def __init__(self, **options: Any) -> None:
        self.left = threading.Event()
        """Set when uvicorn has reported that a client left."""
        self.closed = threading.Event()
        self.reports: list[StreamReport] = []
        wsgi: Any = self.wsgi  # a2wsgi has types of its own
        mount: Any = WSGIMiddleware(wsgi, workers=1)
        self._batched = SSEBatchingMiddleware(mount, on_close=self.reports.append, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched_receive() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
            return message

        await self._batched(scope, watched_receive, send)

    def wsgi(self, environ: dict[str, Any], start_response: StartResponse) -> Iterator[bytes]:
        """Send one event, wait until the client has left, and send many more. Never stop early."""
        path = environ["PATH_INFO"]
        if path == "/plain":
            start_response("200 OK", [("content-type", "text/plain")])
            yield b"fine"
            return
        try:
            if path == "/before-the-start":
                assert current_token().wait(PATIENCE)
            start_response("200 OK", [("content-type", "text/event-stream")])
            yield EVENT
            if path == "/asks":
                assert current_token().wait(PATIENCE)
            elif path == "/never-asks":
                assert self.left.wait(PATIENCE)
            for _ in range(MANY):
                yield LARGE_EVENT
        finally:
            self.closed.set()

    def expect_it_answers(self, port: int) -> None:
        """Check that the WSGI app has ended, and that its thread serves the next request."""
        assert self.closed.wait(PATIENCE)
        with Client(port) as client:
            assert client.get("/plain") == b"fine"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS_TO_LEAVE)
@pytest.mark.parametrize("path", ["/never-asks", "/asks", "/before-the-start"])
def test_mount_answers_after_a_client_has_left(kind: Kind, way: Leave, path: str) -> None:
    """A WSGI app that goes on sending to nobody ends by itself, as without the middleware. No
    `send` raises and the app is not cancelled: a2wsgi's thread would wait endlessly."""
    mount = Mount(grace_period=0.0)
    with serving(mount, kind) as port, Client(port) as client:
        client.ask(path)
        if path != "/before-the-start":
            client.read_start()
            client.read_body(until=EVENT)
        client.leave(way)
        mount.expect_it_answers(port)
    assert [report.reason for report in mount.reports] == [CancelReason.CLIENT_DISCONNECTED]


def test_mount_answers_after_a_client_has_stalled() -> None:
    """The same holds for a client that stays connected and reads nothing."""
    mount = Mount(send_timeout=0.1)
    with (
        serving(mount, socket_buffers=8_192) as port,
        Client(port, socket_buffers=8_192) as client,
    ):
        client.ask("/never-reads")
        mount.expect_it_answers(port)
    assert [report.reason for report in mount.reports] == [CancelReason.SEND_TIMEOUT]
