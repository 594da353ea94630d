"""A transport of httpx2 for ASGI apps in this process, which streams."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2

from ._transport import Answer, AppTransport

__all__ = ["StreamingTransport"]


class StreamingTransport(AppTransport, httpx2.AsyncBaseTransport):
    """A transport for `httpx2.AsyncClient`: each chunk comes when the app sends it.

        transport = StreamingTransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client: ...

    To close a response is to leave; `send` waits while more than `unread_limit` bytes are unread.
    The client has to be entered; at the end of that block it leaves what still streams, and waits
    for the apps to end. Its timeouts do not apply. For one event loop.

    `conversations` has the server's side of each request. The options, which `AppTransport`
    explains, are `after`, `unread_limit`, `raise_app_exceptions` and `root_path`. Raises what the
    app raises (or not: `raise_app_exceptions`), `RuntimeError` if the client was not entered, and
    of httpx2's errors `ReadError` after the client has left, `RemoteProtocolError` for a response
    that breaks off.
    """

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Called by httpx2's client."""
        assert isinstance(request.stream, httpx2.AsyncByteStream)  # of an AsyncClient
        url = request.url
        answer = await self.ask(
            httpx2,
            method=request.method,
            path=url.path,
            headers=request.headers.raw,
            body=request.stream,
            scope={
                "scheme": url.scheme,
                "raw_path": url.raw_path.partition(b"?")[0],
                "query_string": url.query,
                "server": (url.host, url.port),
            },
        )
        return httpx2.Response(answer.status, headers=answer.headers, stream=_Body(answer))


class _Body(httpx2.AsyncByteStream):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._answer

    async def aclose(self) -> None:
        await self._answer.aclose()
