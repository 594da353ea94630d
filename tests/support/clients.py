"""An HTTP/1.1 client on a plain socket.

It can leave in each way that TCP has, it can stop reading, and it sees how the response was cut
into chunks.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, Self

import h11
import pytest

from tests.support.servers import PATIENCE

Leave = Callable[[socket.socket], object]

RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


def fin(connection: socket.socket) -> None:
    """Close the connection, as a browser does when a tab is closed."""
    connection.close()


def rst(connection: socket.socket) -> None:
    """Reset the connection, as the system does when a process is killed with data unread."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    connection.close()


def half_close(connection: socket.socket) -> None:
    """Close only the sending side. To uvicorn that is a client that leaves."""
    connection.shutdown(socket.SHUT_WR)


WAYS_TO_LEAVE: Final = [
    pytest.param(way, id=way.__name__.replace("_", "-")) for way in (fin, rst, half_close)
]


class Client:
    """One connection. Each wait has a time limit."""

    def __init__(self, port: int, *, socket_buffers: int | None = None) -> None:
        self.chunks = 0
        """How many chunks of the transfer encoding the latest response has had so far."""
        self.connection = socket.socket()
        if socket_buffers is not None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, socket_buffers)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, socket_buffers)
        self.connection.settimeout(PATIENCE)
        self.connection.connect(("127.0.0.1", port))
        self._http = h11.Connection(h11.CLIENT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.connection.close()

    def ask(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        upload: int | None = None,
    ) -> None:
        """Send a request. With `upload`, announce a body of this many bytes, and do not send it."""
        if self._http.our_state is not h11.IDLE:
            self._http.start_next_cycle()
        self.chunks = 0
        length = [] if upload is None else [("content-length", str(upload))]
        target_headers = [("host", "127.0.0.1"), *length, *headers]
        request = h11.Request(method=method, target=path, headers=target_headers)
        self.connection.sendall(self._http.send(request) or b"")
        if upload is None:
            self.connection.sendall(self._http.send(h11.EndOfMessage()) or b"")

    def send_body(self, body: bytes) -> None:
        """Send the whole body that `ask` has announced."""
        self.connection.sendall(self._http.send(h11.Data(body)) or b"")
        self.connection.sendall(self._http.send(h11.EndOfMessage()) or b"")

    def read_start(self) -> h11.Response:
        """Read the head of the response."""
        event = self._next_event()
        assert isinstance(event, h11.Response), event
        return event

    def read_body(self, until: bytes | None = None) -> bytes:
        """Read until these bytes have come, or to the end of the response. Return what was read."""
        body = b""
        while until is None or until not in body:
            event = self._next_event()
            if isinstance(event, h11.EndOfMessage):
                assert until is None, f"{until!r} is not in {body!r}"
                break
            assert isinstance(event, h11.Data), event
            self.chunks += event.chunk_start
            body += event.data
        return body

    def get(self, path: str = "/") -> bytes:
        """Send a request, read the whole response, and return its body."""
        self.ask(path)
        self.read_start()
        return self.read_body()

    def leave(self, way: Leave = fin) -> None:
        way(self.connection)

    def _next_event(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(self.connection.recv(65_536))
        return event
