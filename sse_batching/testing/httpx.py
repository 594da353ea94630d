"""A transport that connects httpx to an ASGI app in the same process, and streams."""

from __future__ import annotations

import httpx

from ._transport import Answer, AppTransport

__all__ = ["StreamingTransport"]


class StreamingTransport(AppTransport, httpx.AsyncBaseTransport):
    """A transport for `httpx.AsyncClient` that hands over each chunk when the app sends it.

        transport = StreamingTransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client: ...

    *Guaranteed*: a client that closes a response leaves, as it does on a server. So does a client
    whose request is cancelled. A client that stops reading stalls: the app's `send` waits while
    more than `unread_limit` bytes are unread. At the end of the client's `async with` block the
    client leaves every response that still streams, and waits until all apps have ended. If the
    block raises, the apps are cancelled.

    *Not guaranteed*: the client's timeouts. They do not apply.

    `conversations` has the server's side of each request, to look at or to disturb. A transport
    belongs to one event loop, and only its tasks may use it.

    Raises the app's exceptions, unless `raise_app_exceptions` is False. Raises `RuntimeError` if
    the client was not entered with `async with`, `httpx.ReadError` after the client has left, and
    `httpx.RemoteProtocolError` if a response breaks off. The end of the block raises
    `TimeoutError` if an app has not ended 10 seconds after its client left, on the clock of the
    event loop.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the app. The client calls this."""
        response: httpx.Response = await self.respond(httpx, _Answer, request)
        return response


class _Answer(Answer, httpx.AsyncByteStream):
    """The body of a response. httpx's client accepts only an `AsyncByteStream` of httpx's own."""
