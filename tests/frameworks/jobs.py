"""The stream that each framework has to serve in these tests, and what became of it."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from random import Random
from threading import Event
from typing import Any, Final

import anyio.lowlevel
from starlette.middleware import Middleware

from sse_batching import SSEBatchingMiddleware, current_token
from sse_batching._types import ASGIApp
from tests.support.streams import Agent, Watched, event

EVENTS: Final = 100

GRACE_PERIOD: Final = 0.01


async def answering() -> AsyncIterator[bytes]:
    """Yield EVENTS events, and end."""
    for number in range(EVENTS):
        yield event(number)
        await anyio.sleep(0.001)


def bulky(number: int) -> bytes:
    """Return a large event: 6,000 random hexadecimal digits, which gzip at best halves."""
    return b"data: %d %s\n\n" % (number, Random(number).randbytes(3000).hex().encode())


async def flooding() -> AsyncIterator[bytes]:
    """Yield large events without end, faster than a client reads them."""
    parts = [bulky(number) for number in range(100)]
    for part in itertools.cycle(parts):
        yield part
        await anyio.lowlevel.checkpoint()


def data_in(part: bytes) -> str:
    """Return the data of an event, for frameworks that make the events themselves."""
    return part.decode().removeprefix("data: ").rstrip()


class Job:
    """A stream to serve at /, with a background task after it."""

    def __init__(self, agent: Agent = answering, *, ask: bool = False, bare: bool = False) -> None:
        self.watched = Watched()
        """Watches the token, if `ask`. The endpoint then asks for its token, and ignores it."""
        self.bare = bare
        """True if the app is built without the middleware."""
        self.options: dict[str, Any] = {"grace_period": GRACE_PERIOD}
        self._agent = agent
        self._ask = ask
        self._closed_at: SimpleQueue[float] = SimpleQueue()
        self._done = Event()

    # For the endpoint.

    def begin(self) -> AsyncIterator[bytes]:
        """Return the generator to stream. Called by the handler of the request."""
        if self._ask:
            self.watched.watch_token(current_token())
        return self._generate()

    async def _generate(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._agent():
                yield part
        finally:
            self._closed_at.put(time.monotonic())

    async def after(self) -> None:
        """The background task that the framework runs after the response."""
        await anyio.lowlevel.checkpoint()
        self._done.set()

    def after_sync(self) -> None:
        """The background task, for a framework that calls a plain function."""
        self._done.set()

    # For the code that builds the app.

    def wrap(self, app: Any) -> ASGIApp:
        """Return the app with the middleware around it."""
        wrapped: ASGIApp = app if self.bare else SSEBatchingMiddleware(app, **self.options)
        return wrapped

    def middleware(self) -> list[Middleware]:
        """Return the middleware, for a framework that takes a list of middlewares."""
        return [] if self.bare else [Middleware(SSEBatchingMiddleware, **self.options)]

    # For the test.

    @property
    def done(self) -> bool:
        """True if the background task has run."""
        return self._done.is_set()

    @property
    def closed(self) -> bool:
        """True if the `finally` of a generator has run. Read after the server has ended."""
        return not self._closed_at.empty()

    def closed_at(self) -> float:
        """Wait for the `finally` of the next generator, and return the monotonic time when it ran.

        Return infinity if it has not run after a second.
        """
        try:
            return self._closed_at.get(timeout=1)
        except Empty:
            return math.inf


@dataclass(frozen=True)
class Setup:
    """A framework, one of its ways to stream, and a place of the middleware in it."""

    name: str
    build: Callable[[Job], ASGIApp]
    gzipped: bool = False
    """True if the framework compresses the response."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options that the middleware needs here."""
    listens: bool = True
    """True if the framework stops its app when it receives `http.disconnect`."""
    background: bool = True
    """True if the framework has background tasks."""
    stays_open_because: str = ""
    """Why a generator stays open until a garbage collection if the client leaves while a write
    waits. The middleware cannot prevent it. Empty if the generator is closed."""
    stays_open_if_asked: bool = False
    """True if the generator stays open in an app that asked for its token, and False if it does so
    in an app that did not ask."""

    def __str__(self) -> str:
        return self.name

    def make(self, job: Job) -> ASGIApp:
        """Return an app that serves the job."""
        job.options |= self.options
        return self.build(job)
