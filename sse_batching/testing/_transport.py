"""What the transports for httpx and httpx2 have in common: calling an app, and leaving it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Protocol, Self

import anyio
import anyio.abc

from .._policy import ends_response
from .._types import ASGIApp
from ._conversation import Conversation

SERVER_ERROR: Final = 500


class HTTPLibrary(Protocol):
    """What the transport uses of httpx or httpx2. Each of the two modules is such an object."""

    @property
    def Response(self) -> Callable[..., Any]: ...

    @property
    def ReadError(self) -> Callable[[str], Exception]: ...

    @property
    def RemoteProtocolError(self) -> Callable[[str], Exception]: ...


class AppTransport:
    """The transport without what differs between httpx and httpx2: types, and their modules."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        after: Mapping[int, Callable[[Conversation], object]] | None = None,
        unread_limit: int = 65_536,
        raise_app_exceptions: bool = True,
        root_path: str = "",
    ) -> None:
        """Make a transport that calls this app.

        Args:
            app: the ASGI app.
            after: what happens to each request when the server has taken this many messages of the
                response, as for `Conversation`.
            unread_limit: bytes of a response that the client may leave unread before the app's
                `send` waits. The message that crosses the limit is still taken.
            raise_app_exceptions: raise the app's exception in the client's call that waits for the
                app. False: show what the client of a server sees, a response with status 500, or
                one that breaks off.
            root_path: `root_path` in the scope of each request.
        """
        self.conversations: list[Conversation] = []
        """The server's side of each request, in the order of the requests."""
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
        try:
            if exc is None:
                for talk in self.conversations:
                    await talk.ended()
        finally:
            tasks.cancel_scope.cancel()
            # Without `exc`, which the task group would wrap in an exception group.
            await tasks.__aexit__(None, None, None)

    async def respond(self, library: HTTPLibrary, answer_type: type[Answer], request: Any) -> Any:
        """Call the app for a request of the library. Return the response as soon as it starts."""
        if self._tasks is None:
            raise RuntimeError("enter the client first: async with AsyncClient(transport=...)")
        url = request.url
        scope = {
            "scheme": url.scheme,
            "root_path": self._root_path,
            "raw_path": url.raw_path.partition(b"?")[0],
            "query_string": url.query,
            "server": (url.host, url.port),
        }
        talk = Conversation(
            self._app,
            method=request.method,
            path=url.path,
            headers=[(name.lower(), value) for name, value in request.headers.raw],
            body=request.stream,
            scope=scope,
            after=self._after,
            unread_limit=self._unread_limit,
        )
        self.conversations.append(talk)
        self._tasks.start_soon(talk.run)
        answer = answer_type(talk, library, raise_app_exceptions=self._raise_app_exceptions)
        try:
            await answer.start()
        except BaseException:
            talk.leave()
            raise
        return library.Response(answer.status, headers=answer.headers, stream=answer)


class Answer:
    """A response of the app while it streams: its head, and an iterator over its body."""

    def __init__(
        self, talk: Conversation, library: HTTPLibrary, *, raise_app_exceptions: bool
    ) -> None:
        self.status = SERVER_ERROR
        self.headers: list[tuple[bytes, bytes]] = []
        self._talk = talk
        self._library = library
        self._raise_app_exceptions = raise_app_exceptions
        self._complete = False

    async def start(self) -> None:
        """Wait until the response starts. Skip messages before that, such as early hints."""
        while (message := await self._talk.read()) is not None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.headers = list(message.get("headers", ()))
                return
        self._raise_cause("Server disconnected without sending a response.")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._complete and (message := await self._talk.read()) is not None:
            self._complete = ends_response(message)
            if message.get("body") and self._talk.scope["method"] != "HEAD":
                return bytes(message["body"])
        if not self._complete and self._talk.sent:
            self._raise_cause("peer closed connection without sending complete message body")
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Leave: the client closes the response."""
        self._talk.leave()

    def _raise_cause(self, broken_off: str) -> None:
        """Raise what ended the response early.

        Return if the app raised before its response began, and the app's exceptions are not to be
        raised. The status is 500 then.
        """
        talk = self._talk
        if talk.left_early:
            raise self._library.ReadError("the client has left")
        if talk.error is None:
            raise self._library.RemoteProtocolError(broken_off)
        if self._raise_app_exceptions:
            raise talk.error
        if talk.sent:
            raise self._library.RemoteProtocolError(broken_off) from talk.error
