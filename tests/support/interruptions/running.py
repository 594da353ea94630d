"""What asyncio and trio share in running a case."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware, StreamReport, current_token

from .apps import APPS, AppBackend, Call
from .case import Case, EventName
from .record import Record
from .server import Server

LEAVES: Final = 5.0
"""When the client leaves, if the request has not ended by then."""

AFTERWARDS: Final = 30.0
"""Seconds for which the server's code goes on after the middleware has returned."""

SEND_TIMEOUT: Final = 2.0


class Request:
    """One request: the app, the middleware, the server, and what interrupts them."""

    def __init__(self, case: Case, backend: AppBackend, *, bare: bool = False) -> None:
        """`bare`: without the middleware."""
        self.record = Record()
        self.server = Server(case.scenario.sending, self.record, backend)
        self._scenario = case.scenario
        self._backend = backend
        self._events = case.events
        self._next = 0
        middleware = SSEBatchingMiddleware(
            self._app,
            grace_period=case.scenario.grace,
            send_timeout=SEND_TIMEOUT,
            on_close=self._on_close if case.scenario.closing == "sync" else self._on_close_async,
        )
        self._served = self._app if bare else middleware
        self.cancel: Callable[[], object] = lambda: None
        self.expire: Callable[[], object] = lambda: None

    def at_step(self, step: int) -> None:
        """Let happen what happens before this step."""
        while self._next < len(self._events) and self._events[self._next][1] <= step:
            name = self._events[self._next][0]
            self._next += 1
            self.happen(name, step)

    def happen(self, name: EventName, step: int) -> None:
        record = self.record
        if record.returned is not None:
            return
        if name == "stop" and record.token is None:
            return
        if name != "timeout":  # see `Record.happened`
            record.happened.append((name, step))
        match name:
            case "cancel":
                self.cancel()
            case "timeout":
                self.expire()
            case "leave":
                self.server.leave()
            case "oserror":
                self.server.fail(ConnectionResetError("injected"))
            case "runtimeerror":
                self.server.fail(RuntimeError("injected"))
            case "stop":
                assert record.token is not None
                record.token.cancel()

    async def run(self) -> None:
        """Run the middleware."""
        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": "/",
            "headers": [],
            "query_string": b"",
        }
        scope["asgi"] = {"version": "3.0", "spec_version": "2.3"}
        await self._served(scope, self.server.receive, self.server.send)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = self.record
        record.app_started = True
        registered: AbstractContextManager[None] = nullcontext()
        try:
            if self._scenario.asking != "no":
                token = record.token = current_token()
                registered = self._backend.registered(self._scenario.asking, token)
            with registered:
                await APPS[self._scenario.app](Call(self._backend, record, receive, send))
        except BaseException as error:
            record.app_error = error
            raise
        finally:
            record.app_ended = self._backend.step

    def _on_close(self, report: StreamReport) -> None:
        self.record.reports.append(report)
        self.record.delivered_at_report = b"".join(self.record.delivered)

    async def _on_close_async(self, report: StreamReport) -> None:
        self._on_close(report)
        for _ in range(3):
            await self._backend.iteration()


class _Complaints(logging.Handler):
    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        self._found.append(f"{record.name}: {record.getMessage()}")


@contextmanager
def warnings_in_the_log(found: list[str]) -> Iterator[None]:
    """Add each warning and error of the package and of asyncio to `found`."""
    handler = _Complaints(found)
    loggers = [logging.getLogger(name) for name in ("sse_batching", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = True
