"""A transport of httpx for ASGI apps in this process, which streams."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from ._transport import Answer, AppTransport

__all__ = ["StreamingTransport"]


class StreamingTransport(AppTransport, httpx.AsyncBaseTransport):
    __doc__ = AppTransport.__doc__

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Called by httpx's client."""
        assert isinstance(request.stream, httpx.AsyncByteStream)  # of an AsyncClient
        url = request.url
        answer = await self.ask(
            httpx,
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
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer))


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._answer

    async def aclose(self) -> None:
        await self._answer.aclose()
