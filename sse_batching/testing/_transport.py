"""What the transports for httpx and httpx2 have in common: apps that are called, and left."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Protocol, Self

import anyio
import anyio.abc

from .._policy import ends_response
from .._types import ASGIApp
from ._conversation import Conversation

SERVER_ERROR: Final = 500


class Errors(Protocol):
    """What an HTTP client raises; httpx and httpx2 are such modules."""

    @property
    def ReadError(self) -> Callable[[str], Exception]: ...

    @property
    def RemoteProtocolError(self) -> Callable[[str], Exception]: ...


class AppTransport:
    """Calls the app for each request, and hands its response on as it comes.

    Each chunk reaches the client when the app has sent it, and `send` waits while more than
    `unread_limit` bytes are unread: a client that closes a response has left, one that reads no
    more has stalled. Timeouts of the client do not apply, no more than those of the `ASGITransport`
    do.

    The client has to be entered (`async with`); at the end of that block it leaves what still
    streams, and waits for the apps to end.

    Args:
        app: the ASGI app.
        after: what happens to each request when the server has taken so many messages of the
            response, as for `Conversation`.
        unread_limit: bytes of a response that wait for the client before `send` does.
        raise_app_exceptions: raise what the app raises, in the call that waits for it; False: what
            a client of a server sees, a response with status 500 or one that breaks off.
        root_path: of the scope.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        after: Mapping[int, Callable[[Conversation], object]] | None = None,
        unread_limit: int = 65_536,
        raise_app_exceptions: bool = True,
        root_path: str = "",
    ) -> None:
        self.conversations: list[Conversation] = []
        """One for each request, in their order: the server's side, to look into and to disturb."""
        self._app = app
        self._after = after
        self._unread_limit = unread_limit
        self._raise_app_exceptions = raise_app_exceptions
        self._root_path = root_path
        self._tasks: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        assert self._tasks is not None  # entered
        tasks, self._tasks = self._tasks, None
        for talk in self.conversations:
            talk.leave()
        if exc is None:
            for talk in self.conversations:
                await talk.ended()
        tasks.cancel_scope.cancel()
        await tasks.__aexit__(None, None, None)  # `exc` goes on as it is, in no group

    async def ask(
        self,
        errors: Errors,
        *,
        method: str,
        path: str,
        headers: Iterable[tuple[bytes, bytes]],
        body: AsyncIterable[bytes],
        scope: Mapping[str, Any],
    ) -> Answer:
        """Call the app, and return when its response starts."""
        if self._tasks is None:
            raise RuntimeError("enter the client first: async with AsyncClient(transport=...)")
        talk = Conversation(
            self._app,
            method=method,
            path=path,
            headers=[(name.lower(), value) for name, value in headers],
            body=body,
            scope={"root_path": self._root_path, **scope},
            after=self._after,
            unread_limit=self._unread_limit,
        )
        self.conversations.append(talk)
        self._tasks.start_soon(talk.run)
        answer = Answer(talk, errors, raise_app_exceptions=self._raise_app_exceptions)
        try:
            await answer.start()
        except BaseException:
            talk.leave()
            raise
        return answer


class Answer:
    """The response of an app, while it comes."""

    def __init__(self, talk: Conversation, errors: Errors, *, raise_app_exceptions: bool) -> None:
        self.status = SERVER_ERROR
        self.headers: list[tuple[bytes, bytes]] = []
        self._talk = talk
        self._errors = errors
        self._raise_app_exceptions = raise_app_exceptions
        self._over = False

    async def start(self) -> None:
        """Wait for the start; early hints and the like go by."""
        while (message := await self._talk.read()) is not None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.headers = list(message.get("headers", ()))
                return
        self._give_reason("Server disconnected without sending a response.")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._over and (message := await self._talk.read()) is not None:
            self._over = ends_response(message)
            if message.get("body") and self._talk.scope["method"] != "HEAD":
                return bytes(message["body"])
        if not self._over and self._talk.sent:
            self._give_reason("peer closed connection without sending complete message body")
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """The client wants no more of it."""
        self._talk.leave()

    def _give_reason(self, broken_off: str) -> None:
        """Say why the response ends here; nothing, for an app that failed before its response."""
        talk = self._talk
        if talk.left_early:
            raise self._errors.ReadError("the client has left")
        if talk.error is None:
            raise self._errors.RemoteProtocolError(broken_off)
        if self._raise_app_exceptions:
            raise talk.error
        if talk.sent:
            raise self._errors.RemoteProtocolError(broken_off) from talk.error
