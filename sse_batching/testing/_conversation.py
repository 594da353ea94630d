"""One request to an ASGI app, from the server's side of it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import anyio
import anyio.abc

from .._policy import ends_response
from .._types import ASGIApp, Message, Scope

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
    What the app raises is kept in `error`. For the event loop that it was entered in.

    Args:
        app: the ASGI app.
        body: the request's body, in the parts that the server hands over.
        scope: what is to be in the scope besides, or otherwise.
        repeat_disconnect: False: say `http.disconnect` to one `receive` only.
        after: what to do when the server has taken so many messages, 0 before the app is called:
            `{3: Conversation.leave}` is a client that leaves after the third message.
        unread_limit: bytes of the response that the server takes before `send` waits for the
            client to `read`; None: the client reads all that comes.
        on_send: awaited with each message, and how many went before it, until the server has taken
            it: for slow servers, and those that refuse.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        method: str = "GET",
        path: str = "/",
        headers: Iterable[tuple[bytes, bytes]] = (),
        body: Iterable[bytes] | AsyncIterable[bytes] = (b"",),
        scope: Mapping[str, Any] | None = None,
        repeat_disconnect: bool = True,
        after: Mapping[int, Callable[[Conversation], object]] | None = None,
        unread_limit: int | None = None,
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
        self._upload = _Upload(body)
        self._after = dict(after or {})
        self._unread_limit = unread_limit
        self._unread = 0
        self._read = 0
        self._room = anyio.Event()
        self._trailers_follow = False
        self._completed = False
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
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self.run)
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
        await self._tasks.__aexit__(None, None, None)  # `exc` goes on as it is, in no group

    # What the client or the server does.

    def leave(self) -> None:
        """The client closes the connection. A blocked `send` returns as if it had succeeded."""
        self._left.set()
        self._upload.abort()
        self._room.set()
        self.resume()
        self._notify()

    def stall(self) -> None:
        """The client reads nothing more: `send` blocks."""
        if self._stalled is None:
            self._stalled = anyio.Event()

    def resume(self) -> None:
        """The client reads on."""
        if self._stalled is not None:
            self._stalled.set()
            self._stalled = None

    async def read(self) -> Message | None:
        """Read the next message, if need be wait for it; None if there will be none any more: the
        client has left, or the app has ended. Makes room under `unread_limit`."""
        while self._read == len(self.sent):
            if self._done.is_set() or self._left.is_set():
                return None
            await self._changed.wait()
        message = self.sent[self._read].message
        self._read += 1
        self._unread -= len(message.get("body", b""))
        self._room.set()
        self._room = anyio.Event()
        return message

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
        """Whether the server took the whole response."""
        return self._completed

    @property
    def left_early(self) -> bool:
        """Whether the client has left before the server took the whole response."""
        return self._left.is_set() and not self._completed

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

    async def run(self) -> None:
        """Call the app, and return when it has ended: for those who have a task for it, in place of
        the `with` block."""
        self._began = anyio.current_time()
        try:
            self._do_what_is_due()
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
        if not self._left.is_set() and (message := await self._upload.next()) is not None:
            self.taken += 1
            self._notify()
            return message
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
            if self._unread_limit is not None:
                while self._unread > self._unread_limit and not self._left.is_set():
                    await self._room.wait()
            if self._write_error is not None:
                raise self._write_error
            if not self._left.is_set() or self._trailers_follow:
                self._take(message)
        finally:
            self.in_send -= 1
            self._notify()

    def _take(self, message: Message) -> None:
        self.sent.append(Sent(anyio.current_time() - self._began, message))
        self._unread += len(message.get("body", b""))
        if message["type"] == "http.response.start":
            self._trailers_follow = message.get("trailers", False)
        elif message["type"] == "http.response.trailers":
            self._completed = self._trailers_follow and not message.get("more_trailers", False)
        elif ends_response(message):
            self._completed = not self._trailers_follow
        if self._completed:
            self._trailers_follow = False
            # As uvicorn: the end of the response is a disconnect to those who wait.
            self._left.set()
        self._do_what_is_due()

    def _do_what_is_due(self) -> None:
        action = self._after.pop(len(self.sent), None)
        if action is not None:
            action(self)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class _Upload:
    """The body of the request, message by message."""

    def __init__(self, parts: Iterable[bytes] | AsyncIterable[bytes]) -> None:
        self._ready: deque[Message] = deque()
        self._more: AsyncIterator[bytes] | None = None
        if isinstance(parts, AsyncIterable):
            self._more = aiter(parts)
        else:
            self._ready.extend(_request(part, more=True) for part in parts)
            if self._ready:
                self._ready[-1]["more_body"] = False
        self._lock = anyio.Lock(fast_acquire=True)
        self._waiting = anyio.CancelScope()

    async def next(self) -> Message | None:
        """The next message, if need be wait for it; None when all were read, or after `abort`."""
        if self._more is not None:
            async with self._lock:
                if self._more is not None:
                    with self._waiting:
                        await self._fetch(self._more)
        return self._ready.popleft() if self._ready else None

    async def _fetch(self, more: AsyncIterator[bytes]) -> None:
        try:
            self._ready.append(_request(await anext(more), more=True))
        except StopAsyncIteration:
            self._more = None
            self._ready.append(_request(b"", more=False))
        self._waiting = anyio.CancelScope()

    def abort(self) -> None:
        """Hand over nothing more."""
        self._ready.clear()
        self._more = None
        self._waiting.cancel()


def _request(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}
