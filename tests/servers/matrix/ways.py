"""Clients for HTTP/1.1 and HTTP/2, and the ways in which they leave."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

import h2.config
import h2.connection
import h2.events
import h11
from hyperframe.frame import RstStreamFrame

from tests.servers.matrix.kinds import Kind
from tests.support.clients import Client, fin, half_close, rst
from tests.support.servers import PATIENCE

SOCKET_BUFFERS: Final = 16_384
"""Bytes of the kernel's buffers for an HTTP/1.1 client. Small, so that writes soon wait for it."""

CANCEL: Final = 8
"""The error code for a stream that is no longer needed (RFC 9113, section 7)."""


class Connection(Protocol):
    """One connection. Each wait has a time limit."""

    connection: socket.socket

    @property
    def body(self) -> bytes:
        """The body of the latest response, as far as it was read."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def ask(self, path: str) -> None:
        """Send a request."""

    def read(self, size: int) -> None:
        """Read until this many bytes of the body have come."""

    def read_to_the_end(self) -> None:
        """Read the rest of the response."""

    def drain(self, patience: float = 0.0) -> None:
        """Read until nothing more comes for this many seconds, or the connection is closed."""


class Http1(Client):
    """See `Connection`."""

    def __init__(self, port: int) -> None:
        super().__init__(port, socket_buffers=SOCKET_BUFFERS)
        self.body = b""
        self._ended = False

    def ask(self, path: str) -> None:  # type: ignore[override]
        self.body, self._ended = b"", False
        super().ask(path)

    def read(self, size: int) -> None:
        while len(self.body) < size:
            assert not self._ended, f"the response ends after {self.body!r}"
            self._read_more()

    def read_to_the_end(self) -> None:
        while not self._ended:
            self._read_more()

    def drain(self, patience: float = 0.0) -> None:
        self.connection.settimeout(patience)
        try:
            self.read_to_the_end()
        except h11.RemoteProtocolError:
            self._ended = True  # the server has closed the connection inside the response
        except OSError:
            pass  # nothing more came, or the server has closed the connection
        finally:
            self.connection.settimeout(PATIENCE)

    def _read_more(self) -> None:
        event = self._next_event()
        if isinstance(event, h11.Data):
            self.body += event.data
        self._ended = isinstance(event, h11.EndOfMessage | h11.ConnectionClosed)


class Http2:
    """See `Connection`. It starts with HTTP/2 without an upgrade (prior knowledge).

    The flow-control windows have their default size, 65,535 bytes. They are opened again only by
    `read_to_the_end`, so a test knows how much a server can have sent. The kernel's buffers hold
    more than that, so it is the window that makes a server wait, and not the socket.
    """

    def __init__(self, port: int) -> None:
        self.body = b""
        self.stream = 0
        self.connection = socket.socket()
        self.connection.settimeout(PATIENCE)
        self.connection.connect(("127.0.0.1", port))
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._http.initiate_connection()
        self._ended = False
        self._unread = 0
        """Bytes that were received, and for which the window was not opened again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.connection.close()

    def ask(self, path: str) -> None:
        self.stream = self._http.get_next_available_stream_id()
        self.body, self._ended = b"", False
        headers = [
            (":method", "GET"),
            (":path", path),
            (":scheme", "http"),
            (":authority", "127.0.0.1"),
        ]
        self._http.send_headers(self.stream, headers, end_stream=True)
        self._flush()

    def read(self, size: int) -> None:
        while len(self.body) < size:
            assert not self._ended, f"the response ends after {self.body!r}"
            self._read_more()

    def read_to_the_end(self) -> None:
        while not self._ended:
            self._open_windows()
            self._read_more()

    def drain(self, patience: float = 0.0) -> None:
        self.connection.settimeout(patience)
        try:
            self.read_to_the_end()
        except OSError:
            pass  # nothing more came, or the server has closed the connection
        finally:
            self.connection.settimeout(PATIENCE)

    def reset_stream(self) -> None:
        """Send RST_STREAM, even for a stream that has ended."""
        self.connection.sendall(RstStreamFrame(self.stream, error_code=CANCEL).serialize())
        if self._unread:
            self._http.increment_flow_control_window(self._unread)  # of the connection
            self._unread = 0

    def _read_more(self) -> None:
        data = self.connection.recv(65_536)
        if not data:
            self._ended = True
        for event in self._http.receive_data(data):
            if isinstance(event, h2.events.ConnectionTerminated):
                self._ended = True
            if getattr(event, "stream_id", None) != self.stream:
                continue
            if isinstance(event, h2.events.DataReceived):
                self.body += event.data
                self._unread += event.flow_controlled_length
            elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                self._ended = True
        self._flush()

    def _open_windows(self) -> None:
        if self._unread and not self._ended:
            self._http.acknowledge_received_data(self._unread, self.stream)
            self._unread = 0
        self._flush()

    def _flush(self) -> None:
        self.connection.sendall(self._http.data_to_send())


def rst_stream(client: Connection) -> None:
    assert isinstance(client, Http2)
    client.reset_stream()


@dataclass(frozen=True)
class Way:
    """A way in which a client leaves."""

    title: str
    leave: Callable[[Connection], None]
    http2_only: bool = False

    @property
    def id(self) -> str:
        return self.title.lower().replace("_", "-")


RST_STREAM: Final = Way("RST_STREAM", rst_stream, http2_only=True)
HALF_CLOSE: Final = Way("half-close", lambda c: half_close(c.connection))
WAYS: Final = (
    Way("FIN", lambda client: fin(client.connection)),
    Way("RST", lambda client: rst(client.connection)),
    HALF_CLOSE,
    RST_STREAM,
)


def ways_of(kind: Kind) -> list[Way]:
    """Return the ways of leaving that the kind's protocol has."""
    return [way for way in WAYS if kind.http2 or not way.http2_only]
