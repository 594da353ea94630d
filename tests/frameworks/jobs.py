"""What a framework is given to do in these tests, and what it made of it."""

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
    """An agent that comes to its end."""
    for number in range(EVENTS):
        yield event(number)
        await anyio.sleep(0.001)


def bulky(number: int) -> bytes:
    """An event that is more than a socket takes at once, and does not shrink when compressed."""
    return b"data: %d %s\n\n" % (number, Random(number).randbytes(3000).hex().encode())


async def flooding() -> AsyncIterator[bytes]:
    """An agent that is faster than its client."""
    parts = [bulky(number) for number in range(100)]
    for part in itertools.cycle(parts):
        yield part
        await anyio.lowlevel.checkpoint()


def data_of(part: bytes) -> str:
    """What stands in an event: for frameworks that make the events themselves."""
    return part.decode().removeprefix("data: ").rstrip()


class Job:
    """A stream to serve at /, with something to do after it."""

    def __init__(self, agent: Agent = answering, *, ask: bool = False, bare: bool = False) -> None:
        self.watched = Watched()
        """Its token, if `ask`: the code that serves the request asks for it, and does nothing."""
        self.bare = bare
        """Whether the app is to be built without the middleware."""
        self.options: dict[str, Any] = {"grace_period": GRACE_PERIOD}
        self._agent = agent
        self._ask = ask
        self._closed_at: SimpleQueue[float] = SimpleQueue()
        self._done = Event()

    # For the endpoint.

    def begin(self) -> AsyncIterator[bytes]:
        """The request has come to its handler: the generator to stream."""
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
        """What the framework is to do after the response, in the way that it has for that."""
        await anyio.lowlevel.checkpoint()
        self._done.set()

    def after_at_once(self) -> None:
        """The same, for a framework that calls a plain function."""
        self._done.set()

    # For the one who puts the app together.

    def wrap(self, app: Any) -> ASGIApp:
        """Put the middleware around an app, by hand."""
        wrapped: ASGIApp = app if self.bare else SSEBatchingMiddleware(app, **self.options)
        return wrapped

    def middleware(self) -> list[Middleware]:
        """The middleware, for a list of them."""
        return [] if self.bare else [Middleware(SSEBatchingMiddleware, **self.options)]

    # For the test.

    @property
    def done(self) -> bool:
        """Whether what was to be done after the response has been done."""
        return self._done.is_set()

    @property
    def closed(self) -> bool:
        """Whether the `finally` of a generator has run; looked at when the server has ended."""
        return not self._closed_at.empty()

    def closed_at(self) -> float:
        """Wait for the `finally` of the next generator; when it ran, on the monotonic clock.
        Infinity, if it has not run after a second."""
        try:
            return self._closed_at.get(timeout=1)
        except Empty:
            return math.inf


@dataclass(frozen=True)
class Setup:
    """A framework, the way it streams, and where the middleware is in it."""

    name: str
    build: Callable[[Job], ASGIApp]
    gzipped: bool = False
    """Whether the framework compresses this response."""
    options: dict[str, Any] = field(default_factory=dict)
    """What the middleware has to be told."""
    keeps: str = ""
    """Why a generator is left to the garbage collection when the client leaves while a write waits
    for it. The middleware cannot help it."""
    keeps_if_asked: bool = False
    """In which app that is so: one that asked for its token, or one that did not."""

    def __str__(self) -> str:
        return self.name

    def make(self, job: Job) -> ASGIApp:
        """The app that does the job."""
        job.options |= self.options
        return self.build(job)
