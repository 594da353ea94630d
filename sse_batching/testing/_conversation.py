"""One request to an ASGI app, with the test in the place of the server."""

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
"""Seconds after which a wait for the app raises, on the clock of the event loop."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message of the app that the server has taken."""

    at: float
    """When the server took it, in seconds since the app was called."""
    message: Message


class Conversation:
    """One request to an ASGI app. The test plays the server and the client.

        async with Conversation(app, path="/chat") as talk:
            await talk.until(lambda: len(talk.bodies) >= 3)
            talk.leave()
            await talk.ended()

    The conversation behaves as servers do. After the client has left, `send` returns without an
    error and discards the message, and each `receive` returns `http.disconnect`.

    At the end of the `with` block the client leaves, if the response is not complete, and the block
    waits until the app has ended. If the block raises, or is cancelled, the app is cancelled. An
    `Exception` of the app does not leave the block: it is in `error`.

    A conversation is for one request, in one event loop; no method may be called from a thread. All
    times are seconds on the clock of the event loop, all sizes are bytes.

    Args:
        app: the ASGI app.
        method, path, headers: of the request. ASGI wants the names of headers in lower case.
        body: the request's body, as the parts that `receive` returns. The parts of an async
            iterable are fetched when the app asks for them.
        scope: keys to add to the scope, or to replace in it.
        repeat_disconnect: False: return `http.disconnect` from one `receive` only, as hypercorn and
            daphne do. Later calls never return.
        after: what to do when the server has taken this many messages of the response. 0 means
            before the app is called. With `{3: Conversation.leave}` the client leaves after the
            third message.
        unread_limit: how much of the body the client may leave unread (see `read`) before `send`
            waits. The message that crosses the limit is still taken. None: no limit.
        on_send: awaited with the number of messages taken before, and the message, before the
            server takes it. It can wait, as a slow server does, or raise.
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
        """The messages that the server has taken, in order."""
        self.taken = 0
        """How many `http.request` messages the app has received."""
        self.error: BaseException | None = None
        """The exception that the app raised."""
        self.in_send = 0
        """How many calls of `send` have not returned yet."""
        self._app = app
        self._upload = _Upload(body)
        self._after = dict(after or {})
        self._unread_limit = unread_limit
        self._unread = 0
        self._read = 0
        self._read_on = anyio.Event()
        self._trailers_follow = False
        self._completed = False
        self._repeat_disconnect = repeat_disconnect
        self._on_send = on_send
        self._left = anyio.Event()
        self._disconnect_returned = False
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
        try:
            if exc is None:
                self.leave()
                await self.ended()
        finally:
            self._tasks.cancel_scope.cancel()
            # Without `exc`, which the task group would wrap in an exception group.
            await self._tasks.__aexit__(None, None, None)

    # What the client and the server do.

    def leave(self) -> None:
        """Let the client close the connection. A `send` that waits returns without an error, unless
        `fail_writes` was called."""
        self._left.set()
        self._upload.abort()
        self._read_on.set()
        self.resume()
        self._notify()

    def stall(self) -> None:
        """Let the client stop reading: each `send` waits until `resume` or `leave`."""
        if self._stalled is None:
            self._stalled = anyio.Event()

    def resume(self) -> None:
        """Let the client go on reading after `stall`."""
        if self._stalled is not None:
            self._stalled.set()
            self._stalled = None

    async def read(self) -> Message | None:
        """Return the next message that the server has taken. Wait for it if there is none yet.

        Return None when there will be no further message, because the client has left or the app
        has ended. What has been read no longer counts for `unread_limit`. Cancelling the call loses
        no message.
        """
        while self._read == len(self.sent):
            if self._done.is_set() or self._left.is_set():
                return None
            await self._changed.wait()
        message = self.sent[self._read].message
        self._read += 1
        self._unread -= len(message.get("body", b""))
        self._read_on.set()
        self._read_on = anyio.Event()
        return message

    def fail_writes(self, error: BaseException) -> None:
        """Let each `send` raise this error from now on. A `send` that waits raises when its wait
        ends."""
        self._write_error = error

    def cancel(self) -> None:
        """Let the server cancel the app, as at a shutdown. `error` does not show it."""
        self._app_scope.cancel()

    # What the app did.

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of the `http.response.body` messages taken so far, without empty ones."""
        messages = (sent.message for sent in self.sent)
        return [m["body"] for m in messages if m["type"] == "http.response.body" and m.get("body")]

    @property
    def body(self) -> bytes:
        """The body of the response so far."""
        return b"".join(self.bodies)

    @property
    def completed(self) -> bool:
        """True if the server has taken the whole response, with its trailers if it has any."""
        return self._completed

    @property
    def left_early(self) -> bool:
        """True if the client left before the server had taken the whole response."""
        return self._left.is_set() and not self._completed

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until `condition()` is true.

        The condition is evaluated at once, and again when a `send` begins or ends, the app receives
        a part of the request's body, the client leaves, or the app ends. Other changes are not
        noticed. Raises `TimeoutError` after 10 seconds.
        """
        with anyio.fail_after(PATIENCE):
            while not condition():
                await self._changed.wait()

    async def ended(self) -> None:
        """Wait until the app has returned or raised. Raises `TimeoutError` after 10 seconds."""
        with anyio.fail_after(PATIENCE):
            await self._done.wait()

    # The server's side of ASGI.

    async def run(self) -> None:
        """Call the app, and return when it has ended. Use this or the `with` block, not both.

        An `Exception` of the app is not raised: it is in `error`. A `BaseException` is in `error`
        and raised, so that a cancellation of the calling task works.
        """
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
        if not self._left.is_set():  # even if it is set, `wait` can be cancelled
            await self._left.wait()
        if self._disconnect_returned and not self._repeat_disconnect:
            await anyio.sleep_forever()
        self._disconnect_returned = True
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
                    await self._read_on.wait()
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
            # As on uvicorn, a `receive` that waits gets a disconnect when the response ends.
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
    """The messages that carry the request's body."""

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
        """Return the next message. Wait if there is none yet. Return None at the end of the body,
        or after `abort`."""
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
        """Stop: from now on `next` returns None, also where it is waiting."""
        self._ready.clear()
        self._more = None
        self._waiting.cancel()


def _request(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}
