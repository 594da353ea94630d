"""For the tests of streaming apps: one request, with the server's side of it in your hands.

An ASGI server is a `receive` and a `send`. `Conversation` plays both for one request, records what
the app sends and when, and does to the app what clients and servers do: leave, stop reading, fail.
Free of pytest; runs on asyncio and trio.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import anyio
import anyio.abc

from ._typing import ASGIApp, Message, Scope

__all__ = ["Conversation", "Sent"]

PATIENCE: Final = 10.0
"""Seconds after which a wait for the app gives up."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that the app's side got through to the server."""

    at: float
    """When the server took it: seconds on the clock of the event loop, from the request's start."""
    message: Message


class Conversation:
    """One request to an ASGI app, from the server's side.

        async with Conversation(app, path="/chat") as talk:
            await talk.until(lambda: len(talk.bodies) >= 3)
            talk.leave()
            await talk.ended()

    It behaves as the servers do: after the client has left, `send` goes on succeeding in silence,
    and `receive` says `http.disconnect` to every call (`repeat_disconnect=False`: to one call
    only, as hypercorn and daphne do).

    At the end of the `with` block an app that still runs is left by its client, and waited for.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        method: str = "GET",
        path: str = "/",
        headers: Iterable[tuple[bytes, bytes]] = (),
        body: Iterable[bytes] = (b"",),
        scope: dict[str, Any] | None = None,
        repeat_disconnect: bool = True,
        on_send: Callable[[int, Message], Awaitable[None]] | None = None,
    ) -> None:
        self.scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": list(headers),
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 80),
            "state": {},
            **(scope or {}),
        }
        self.sent: list[Sent] = []
        """What the server took, in order."""
        self.taken = 0
        """How many messages of the request body the app's side has read."""
        self.error: BaseException | None = None
        """What left the app, once it has ended."""
        self.in_send = 0
        """How many calls of `send` are under way."""
        self._app = app
        self._body = list(body)
        self._repeat_disconnect = repeat_disconnect
        self._on_send = on_send
        self._left = anyio.Event()
        self._told = False
        self._stalled: anyio.Event | None = None
        self._write_error: BaseException | None = None
        self._done = anyio.Event()
        self._changed = anyio.Event()
        self._began = 0.0
        self._tasks: anyio.abc.TaskGroup | None = None
        self._app_scope = anyio.CancelScope()

    async def __aenter__(self) -> Self:
        self._began = anyio.current_time()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._run)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._tasks is not None  # entered
        if exc is None:
            self.resume()
            self.leave()
            await self.ended()
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(exc_type, exc, traceback)

    # What the client or the server does.

    def leave(self) -> None:
        """The client closes the connection. A blocked `send` returns as if it had succeeded."""
        self._left.set()
        self.resume()

    def stall(self) -> None:
        """The client reads nothing more: `send` blocks."""
        if self._stalled is None:
            self._stalled = anyio.Event()

    def resume(self) -> None:
        """The client reads on."""
        if self._stalled is not None:
            self._stalled.set()
            self._stalled = None

    def fail_writes(self, error: BaseException) -> None:
        """From now on `send` raises this."""
        self._write_error = error

    def cancel(self) -> None:
        """The server cancels the request."""
        self._app_scope.cancel()

    # What the app did.

    @property
    def bodies(self) -> list[bytes]:
        """The body of each `http.response.body` message, but for empty ones."""
        messages = (sent.message for sent in self.sent)
        return [m["body"] for m in messages if m["type"] == "http.response.body" and m.get("body")]

    @property
    def body(self) -> bytes:
        """The bytes of the response so far."""
        return b"".join(self.bodies)

    @property
    def completed(self) -> bool:
        """Whether the server took the last message."""
        return any(
            sent.message["type"] == "http.response.body" and not sent.message.get("more_body")
            for sent in self.sent
        )

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds; looked at whenever the app has sent, read or ended.

        Raises `TimeoutError` after 10 seconds, on the clock of the event loop.
        """
        with anyio.fail_after(PATIENCE):
            while not condition():
                await self._changed.wait()

    async def ended(self) -> None:
        """Wait until the app has ended. Raises `TimeoutError` as `until` does."""
        with anyio.fail_after(PATIENCE):
            await self._done.wait()

    # The server's side of ASGI.

    async def _run(self) -> None:
        try:
            with self._app_scope:
                await self._app(self.scope, self._receive, self._send)
        except BaseException as error:
            self.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._done.set()
            self._notify()

    async def _receive(self) -> Message:
        if self.taken < len(self._body) and not self._left.is_set():
            body = self._body[self.taken]
            self.taken += 1
            self._notify()
            more = self.taken < len(self._body)
            return {"type": "http.request", "body": body, "more_body": more}
        if not self._left.is_set():  # an event that is set is no place to be cancelled
            await self._left.wait()
        if self._told and not self._repeat_disconnect:
            await anyio.sleep_forever()
        self._told = True
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.in_send += 1
        self._notify()
        try:
            if self._on_send is not None:
                await self._on_send(len(self.sent), message)
            if self._stalled is not None:
                await self._stalled.wait()
            if self._write_error is not None:
                raise self._write_error
            if not self._left.is_set():
                self.sent.append(Sent(anyio.current_time() - self._began, message))
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    # As uvicorn: the end of the response is a disconnect to those who wait.
                    self._left.set()
        finally:
            self.in_send -= 1
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
