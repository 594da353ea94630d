"""A pytest plugin that runs the test suites of other packages with the middleware.

The plugin wraps every app that a test client is given, and records the outcome of each test. pytest
loads it by name from this directory (`-p wrap_every_app`), because such a suite has its own package
`tests`. `tests/peers/suites.py` passes a `Run` in the environment.
"""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from unittest.mock import patch

import httpx
import httpx2
import pytest
import trio
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sse_batching import (
    SSEBatchingMiddleware,
    StreamReport,
    _exchange,
    _policy,
    _request,
    current_stream,
    current_token,
)

RUN: Final = "SSE_BATCHING_PEER_RUN"
"""The environment variable with the `Run`, as JSON."""

Outcome = Literal["passed", "failed", "skipped", "xfailed", "xpassed"]


@dataclass(frozen=True)
class Wrap:
    """How the middleware is put around an app."""

    options: dict[str, Any] = field(default_factory=dict)
    every_response: bool = False
    """Whether to batch every response with a body, also without a content type."""
    gather: bool = True
    """Whether to buffer chunks. Otherwise each chunk is delivered alone."""
    ask: bool = False
    """Whether to ask for the token of every request, so that every request is watched."""


@dataclass(frozen=True)
class Run:
    """The settings of one run of a suite."""

    result: str
    """The path of the file for the `Result`."""
    wrap: Wrap | None
    """How to wrap apps. None: without the middleware."""

    @staticmethod
    def of_environment() -> Run:
        found = json.loads(os.environ[RUN])
        return Run(found["result"], Wrap(**found["wrap"]) if found["wrap"] is not None else None)


@dataclass
class Result:
    """The result of one run of a suite."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """The report of pytest about each failed test."""
    counts: Counter[str] = field(default_factory=Counter)
    """Counts of what the middleware did."""

    @staticmethod
    def read(path: Path) -> Result:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Result(found["outcomes"], found["failures"], Counter(found["counts"]))

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(vars(self)), encoding="utf-8")


class Recorder:
    """Record the outcome of each test."""

    def __init__(self, result: Result, path: Path) -> None:
        self._result = result
        self._path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcomes = self._result.outcomes
        if report.when == "call" or report.outcome != "passed":
            outcome: Outcome = report.outcome
            if hasattr(report, "wasxfail"):
                outcome = "xfailed" if report.skipped else "xpassed"
            outcomes[report.nodeid] = outcome
        if report.failed:
            self._result.failures[report.nodeid] = report.longreprtext

    def pytest_sessionfinish(self) -> None:
        self._result.write(self._path)


class Wrapper:
    """Wrap apps in the middleware, and count what the middleware does for them."""

    def __init__(self, wrap: Wrap, counts: Counter[str]) -> None:
        self._wrap = wrap
        self._counts = counts

    def wrap(self, app: ASGIApp) -> ASGIApp:
        self._counts["apps"] += 1
        return SSEBatchingMiddleware(
            self._prepared(app),
            enabled=self._request,
            on_close=self._closed,
            **self._wrap.options,
        )

    def wrap_apps_of(self, client: type) -> None:
        """Wrap every app that a client of this class is made with."""
        init: Callable[..., None] = vars(client)["__init__"]

        @functools.wraps(init)
        def wrapping_init(made: Any, *args: Any, **kwargs: Any) -> None:
            init(made, *args, **kwargs)
            made.app = self.wrap(made.app)
            if isinstance(made, TestClient):  # `app` only gets the lifespan, not the requests
                vars(made._transport)["app"] = made.app

        patch.object(client, "__init__", wrapping_init).start()

    def _prepared(self, app: ASGIApp) -> ASGIApp:
        async def prepared(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and self._wrap.ask:
                current_token()
            if scope["type"] == "http" and not self._wrap.gather:
                current_stream().configure(enabled=False)
            await app(scope, receive, send)

        return prepared

    def _request(self, scope: Scope) -> bool:
        loop = "trio" if trio.lowlevel.in_trio_run() else "asyncio"
        self._counts[f"requests on {loop}"] += 1
        return True

    def _closed(self, report: StreamReport) -> None:
        if report.writes:
            self._counts["responses taken over"] += 1
        if report.writes < report.chunks:
            self._counts["responses in fewer writes"] += 1
        if report.reason is not None:
            self._counts["responses cut short"] += 1


def has_body(scope: Scope, start: Message, media_types: frozenset[bytes]) -> bool:
    """Replace the policy: return True for a response with a body, whatever its content type."""
    headers = [(b"content-type", next(iter(media_types)))]
    return _policy.is_batched(scope, {**start, "headers": headers}, media_types)


def pytest_configure(config: pytest.Config) -> None:
    run = Run.of_environment()
    result = Result()
    config.pluginmanager.register(Recorder(result, Path(run.result)))
    if run.wrap is not None:
        wrapper = Wrapper(run.wrap, result.counts)
        for client in (TestClient, httpx.ASGITransport, httpx2.ASGITransport):
            wrapper.wrap_apps_of(client)
        if run.wrap.every_response:
            for module in (_request, _exchange):
                patch.object(module, "is_batched", has_body).start()
