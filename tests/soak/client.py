"""The clients' side of the soak, on bare sockets: a client can leave in every way that TCP has."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

import h11

from tests.soak.plan import Plan, Point, Way

PATIENCE: Final = 60.0
"""Seconds after which a client reports that it waited in vain."""

RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Seen:
    """One stream as its client saw it."""

    status: int | None = None
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False
    """Whether the end of the response has arrived."""
    silent_for: float = 0.0
    """Seconds during which the client did not read before it left or continued."""
    trouble: str | None = None


class Connection:
    """A connection that is kept alive from stream to stream until its client leaves."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=1_000_000)
        self._socket: socket.socket | None = None
        self.used = False
        """Whether a response has arrived on the connection."""

    async def open(self) -> Self:
        self._socket = socket.socket()
        self._socket.setblocking(False)
        await asyncio.get_running_loop().sock_connect(self._socket, ("127.0.0.1", self._port))
        return self

    async def ask(self, target: str, body: bytes = b"", *, send: int | None = None) -> None:
        """Send a request. `send` limits how many bytes of the body are sent."""
        if self._http.our_state is not h11.IDLE:
            self._http.start_next_cycle()
        headers = [("host", "soak"), ("content-length", str(len(body)))]
        method = "POST" if body else "GET"
        data = self._http.send(h11.Request(method=method, target=target, headers=headers)) or b""
        data += body[:send] if send is not None else body
        if send is None:
            if body:
                self._http.send(h11.Data(data=body))
            self._http.send(h11.EndOfMessage())
        await asyncio.get_running_loop().sock_sendall(self._open_socket, data)

    async def event(self) -> Any:
        """Return the next event of the response."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = await asyncio.get_running_loop().sock_recv(self._open_socket, 262_144)
            self._http.receive_data(data)
        return event

    async def read_start(self, seen: Seen) -> None:
        """Read the head of the response."""
        event = await self.event()
        assert isinstance(event, h11.Response), event
        seen.status = event.status_code
        self.used = True

    async def read(self, seen: Seen, until: int | None = None) -> None:
        """Read until the body has `until` bytes, or to the end of the response."""
        while not seen.complete and (until is None or len(seen.body) < until):
            event = await self.event()
            if isinstance(event, h11.Data):
                seen.body += event.data
            else:
                assert isinstance(event, h11.EndOfMessage), event
                seen.complete = True

    async def get(self, target: str) -> bytes:
        """Send a request that does not stream, and return the body of the response."""
        seen = Seen()
        await self.ask(target)
        await self.read_start(seen)
        await self.read(seen)
        assert seen.status == 200, seen
        return bytes(seen.body)

    async def leave(self, way: Way, seen: Seen) -> None:
        """Leave in this way, and drop what has not been read.

        A client that only half-closes reads on until the server closes the other half.
        """
        with self._open_socket as connection, suppress(OSError):
            if way is Way.RST:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            elif way is Way.HALF_CLOSE:
                connection.shutdown(socket.SHUT_WR)
                with suppress(h11.RemoteProtocolError):  # the response ends early
                    if seen.status is None:
                        await self.read_start(seen)
                    await self.read(seen)
        self._socket = None

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    @property
    def _open_socket(self) -> socket.socket:
        assert self._socket is not None, "the client has left"
        return self._socket

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


async def converse(connection: Connection, plan: Plan, given_up: asyncio.Event) -> Seen | None:
    """Follow the plan. `given_up` is set when the server has ended its side of the stream.

    Return None if the server closed an idle connection just as this request was sent. The client
    then sends the request again on another connection.
    """
    seen, used = Seen(), connection.used
    try:
        async with asyncio.timeout(PATIENCE):
            await _follow(connection, plan, seen, given_up)
    except (OSError, TimeoutError, h11.ProtocolError) as error:
        connection.close()
        if used and seen.status is None and not isinstance(error, TimeoutError):
            return None
        seen.trouble = repr(error)
    return seen


async def _follow(connection: Connection, plan: Plan, seen: Seen, given_up: asyncio.Event) -> None:
    body = plan.order.sent()
    half = len(body) // 2 if plan.point is Point.IN_UPLOAD else None
    await connection.ask(plan.order.target(), body, send=half)
    if plan.point not in (Point.BEFORE_START, Point.IN_UPLOAD):
        await connection.read_start(seen)
        await connection.read(seen, plan.reads)
    if plan.point is Point.STALLED:
        await given_up.wait()
    elif plan.pause:
        began = time.monotonic()
        await asyncio.sleep(plan.pause)
        seen.silent_for = time.monotonic() - began
    if plan.leaves:
        await connection.leave(plan.way, seen)
    else:
        await connection.read(seen)
