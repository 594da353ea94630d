"""A server and a writer, without an app and a middleware."""

from __future__ import annotations

from typing import Any, Final

import anyio

from sse_batching._buffer import Buffer
from sse_batching._cause import Cause
from sse_batching._loop import current_loop
from sse_batching._types import Message
from sse_batching._writer import BatchWriter
from tests.support.virtual_time import advance

DELAY: Final = 4.0
BOUND: Final = 100


class Server:
    """Records each message that it takes. The test can let its writes wait or fail."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.times: list[float] = []
        self.error: BaseException | None = None
        """Raised by the following writes."""
        self._began = current_loop().time()
        self._open = anyio.Event()
        self._open.set()

    async def send(self, message: Message) -> None:
        await self._open.wait()
        if self.error is not None:
            raise self.error
        self.sent.append(message)
        self.times.append(round(current_loop().time() - self._began, 6))

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of the messages that have one."""
        return [message["body"] for message in self.sent if "body" in message]

    def block(self) -> None:
        """Let writes wait until `unblock`."""
        self._open = anyio.Event()

    def unblock(self) -> None:
        self._open.set()


class Writing:
    """A writer with its buffer and its server."""

    def __init__(self, server: Server | None = None, **options: Any) -> None:
        self.server = server or Server()
        self.closed: list[Cause | None] = []
        self.buffer = Buffer(DELAY, BOUND)
        self.writer = BatchWriter(
            self.server.send,
            self.buffer,
            current_loop(),
            self.closed.append,
            **{"send_timeout": None, "keepalive_interval": None, **options},
        )

    def add(self, body: bytes) -> None:
        """Add a chunk as the app's `send` does, without a wait."""
        self.buffer.add(body, current_loop().time())

    async def begin_burst(self) -> None:
        """Let a burst grow older than `DELAY`. A chunk that comes now waits for a whole `DELAY`."""
        self.add(b"first")
        await advance(3)
        self.add(b"second")
        await advance(3.5)
        assert self.server.times == [0, 6]

    async def end(self) -> None:
        self.writer.abort()
        await self.writer.join(1)
        assert self.writer.stopped
