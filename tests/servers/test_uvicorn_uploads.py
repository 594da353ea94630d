"""A client of a real uvicorn that uploads 10 MB while its response streams."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import anyio
import pytest

from sse_batching import SSEBatchingMiddleware
from sse_batching._receiver import READ_AHEAD
from sse_batching._types import ASGIApp, Message, Receive, Scope, Send
from tests.support.clients import Client
from tests.support.servers import KINDS, Kind, serving
from tests.support.streams import EVENT_STREAM, event

each_kind = pytest.mark.parametrize("kind", KINDS)

UPLOAD: Final = bytes(range(256)) * 40_960
LARGEST_MESSAGE: Final = 4 * 65_536
"""Bytes of a request body that uvicorn may pass on in one message, as measured."""

START: Final[Message] = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", EVENT_STREAM.encode())],
}


def chunk(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


@contextmanager
def serving_upload(app: ASGIApp, kind: Kind) -> Iterator[Client]:
    """Serve the app to a client that uploads while it reads the response.

    The upload is cut off at the end of the block.
    """

    def upload() -> None:
        with suppress(OSError):  # the server may close before it has read the whole upload
            client.connection.sendall(UPLOAD)

    with serving(app, kind, lifespan="off") as port, Client(port) as client:
        client.ask(method="POST", upload=len(UPLOAD))
        thread = threading.Thread(target=upload)
        thread.start()
        try:
            yield client
        finally:
            with suppress(OSError):
                client.connection.shutdown(socket.SHUT_RDWR)
            thread.join()


class Meter:
    """ASGI middleware that counts how many bytes of the upload are read."""

    def __init__(self, app: ASGIApp) -> None:
        self.read = 0
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def metered() -> Message:
            message = await receive()
            self.read += len(message.get("body", b""))
            return message

        await self._app(scope, metered, send)


async def read_slowly(scope: Scope, receive: Receive, send: Send) -> None:
    await send(START)
    digest = hashlib.sha256()
    more = True
    while more:
        message = await receive()
        digest.update(message["body"])
        more = message["more_body"]
        await send(chunk(event(len(message["body"]))))
        await anyio.sleep(0.001)
    await send(chunk(digest.hexdigest().encode(), more=False))


@each_kind
def test_upload_that_is_read_slowly_arrives_whole(kind: Kind) -> None:
    """The app reads each byte, in order, while it sends events. Pitfall 1."""
    with serving_upload(SSEBatchingMiddleware(read_slowly), kind) as client:
        client.read_start()
        assert client.read_body().endswith(hashlib.sha256(UPLOAD).hexdigest().encode())


class NeverReads:
    """An app that streams, and ends 50 events after the middleware has read ahead all it may."""

    def __init__(self) -> None:
        self.app = Meter(SSEBatchingMiddleware(self))
        self.sent = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        to_go = 50
        while to_go:
            await self._send(event(to_go), send)
            await anyio.sleep(0.001)
            to_go -= self.app.read >= READ_AHEAD
        await self._send(b"data: [DONE]\n\n", send, more=False)

    async def _send(self, part: bytes, send: Send, *, more: bool = True) -> None:
        self.sent += part
        await send(chunk(part, more=more))


@each_kind
def test_stream_beside_an_upload_that_is_never_read_arrives_whole(kind: Kind) -> None:
    """An upload that the app does not read delays nothing."""
    agent = NeverReads()
    with serving_upload(agent.app, kind) as client:
        client.read_start()
        body = client.read_body()
    assert body == agent.sent


@each_kind
def test_upload_that_is_never_read_is_not_buffered(kind: Kind) -> None:
    """The middleware, which watches for the disconnect, reads READ_AHEAD and at most one message
    more."""
    agent = NeverReads()
    with serving_upload(agent.app, kind) as client:
        client.read_start()
        client.read_body()
    assert READ_AHEAD <= agent.app.read <= READ_AHEAD + LARGEST_MESSAGE
