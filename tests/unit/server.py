"""A server's `send`, for parts that write without an app and a middleware."""

from __future__ import annotations

import anyio

from sse_batching._loop import current_loop
from sse_batching._types import Message


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
