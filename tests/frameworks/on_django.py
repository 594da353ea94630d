"""Django: an async `StreamingHttpResponse` behind its ASGI handler."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from django.conf import settings  # type: ignore[import-untyped]
from django.core.asgi import get_asgi_application  # type: ignore[import-untyped]
from django.http import HttpRequest, StreamingHttpResponse  # type: ignore[import-untyped]
from django.urls import path  # type: ignore[import-untyped]

from sse_batching._types import ASGIApp
from tests.frameworks.jobs import EVENTS, Job, Setup
from tests.support.streams import EVENT_STREAM, event

settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, LOGGING_CONFIG=None, USE_TZ=True, SECRET_KEY="x"
)


class Response(StreamingHttpResponse):  # type: ignore[misc]
    """Runs the job's background task in `close`, because Django has no background tasks."""

    def __init__(self, job: Job, parts: AsyncIterator[bytes] | Iterator[bytes]) -> None:
        super().__init__(parts, content_type=EVENT_STREAM)
        self._job = job

    def close(self) -> None:
        super().close()
        self._job.after_sync()


class WithJob:
    """Puts the job into the scope, because Django has one set of views for a process."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._app = get_asgi_application()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["job"] = self._job
        await self._app(scope, receive, send)


async def endpoint(request: HttpRequest) -> Response:
    job: Job = request.scope["job"]
    return Response(job, job.begin())


async def blocking_endpoint(request: HttpRequest) -> Response:
    """Stream a plain iterator, which Django reads to its end before it sends anything."""
    return Response(request.scope["job"], map(event, range(EVENTS)))


urlpatterns = [path("", endpoint), path("blocking", blocking_endpoint)]


def wrapped(job: Job) -> ASGIApp:
    return job.wrap(WithJob(job))


SETUPS: Final = [Setup("django", wrapped)]
