"""Clients of both protocols, and the ways in which they leave."""

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
"""Bytes that the kernel keeps for an HTTP/1.1 client: so little is out of the server's hands."""

CANCEL: Final = 8
"""Of RFC 9113, 7: the stream is no longer needed."""


class Connection(Protocol):
    """One connection. Every wait is bounded."""

    connection: socket.socket

    @property
    def body(self) -> bytes:
        """What has come of the latest response."""

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
        """Read until so much of the body has come."""

    def read_to_the_end(self) -> None:
        """Read the rest of the response."""

    def drain(self, patience: float = 0.0) -> None:
        """Read until nothing more comes for so many seconds, if anything can be read at all."""


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
            self._read_on()

    def read_to_the_end(self) -> None:
        while not self._ended:
            self._read_on()

    def drain(self, patience: float = 0.0) -> None:
        self.connection.settimeout(patience)
        try:
            self.read_to_the_end()
        except h11.RemoteProtocolError:
            self._ended = True  # cut off
        except OSError:
            pass  # nothing more is there
        finally:
            self.connection.settimeout(PATIENCE)

    def _read_on(self) -> None:
        event = self._next_event()
        if isinstance(event, h11.Data):
            self.body += event.data
        self._ended = isinstance(event, h11.EndOfMessage | h11.ConnectionClosed)


class Http2:
    """See `Connection`. It starts with HTTP/2, without asking (prior knowledge).

    The windows are what they are by default: 65,535 bytes. They are opened again only when it reads
    to the end, so that nobody has to guess what a server has got rid of. The kernel keeps more than
    that: what holds a server up is the window, not the socket.
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
        """Bytes that have come, and for which no window was opened again."""

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
            self._read_on()

    def read_to_the_end(self) -> None:
        while not self._ended:
            self._open_windows()
            self._read_on()

    def drain(self, patience: float = 0.0) -> None:
        self.connection.settimeout(patience)
        try:
            self.read_to_the_end()
        except OSError:
            pass  # nothing more is there, or nothing can be said in return
        finally:
            self.connection.settimeout(PATIENCE)

    def reset_stream(self) -> None:
        """Send RST_STREAM, also for a stream that has ended."""
        self.connection.sendall(RstStreamFrame(self.stream, error_code=CANCEL).serialize())
        if self._unread:
            self._http.increment_flow_control_window(self._unread)  # of the connection
            self._unread = 0

    def _read_on(self) -> None:
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
    """How a client leaves."""

    title: str
    take: Callable[[Connection], None]
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
    """Those of its protocol."""
    return [way for way in WAYS if kind.http2 or not way.http2_only]
