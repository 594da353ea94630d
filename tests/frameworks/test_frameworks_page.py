"""Every line of docs/frameworks.md does what it says."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from litestar import Litestar
from litestar.middleware import DefineMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route

from sse_batching import SSEBatchingMiddleware
from sse_batching._types import ASGIApp
from tests.frameworks import on_fastapi, on_litestar, on_quart, on_starlette
from tests.frameworks.jobs import EVENTS, Job
from tests.frameworks.on_django import WithJob
from tests.frameworks.test_mcp import STEPS, Tools, progress_of
from tests.support.clients import Client
from tests.support.servers import REPOSITORY, serving

PAGE: Final = (REPOSITORY / "docs" / "frameworks.md").read_text()
SNIPPETS: Final = re.findall(r"^```python (\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def names_for(framework: str) -> dict[str, Any]:
    """What a line may use: an app without the middleware, its parts, and what it would import."""
    routes = [Route("/", on_starlette.streaming(Job()))]
    bare = Job(bare=True)
    apps: dict[str, Any] = {
        "starlette": Starlette(routes=routes),
        "fastapi": on_fastapi.response(bare),
        "sse_starlette": on_starlette.sse_starlette(bare),
        "litestar": on_litestar.app_of(bare, events=False, middleware=[]),
        "quart": on_quart.plain(bare),
        "django": None,
    }
    return {
        "DefineMiddleware": DefineMiddleware,
        "Litestar": Litestar,
        "Middleware": Middleware,
        "Mount": Mount,
        "SSEBatchingMiddleware": SSEBatchingMiddleware,
        "Starlette": Starlette,
        "app": apps[framework],
        "get_asgi_application": lambda: WithJob(Job()),
        "route_handlers": [on_litestar.handler_of(Job(), events=False)],
        "routes": routes,
    }


def app_made_by(snippet: str, names: dict[str, Any]) -> ASGIApp:
    exec(snippet, names)
    app: ASGIApp = names.get("application") or names["app"]
    return app


@pytest.mark.parametrize(
    ("framework", "snippet"), [pair for pair in SNIPPETS if pair[0] != "mcp"], ids=str
)
def test_line_makes_a_stream_come_in_fewer_chunks(framework: str, snippet: str) -> None:
    """An app that it is applied to batches its stream."""
    app = app_made_by(snippet, names_for(framework))
    with serving(app) as port, Client(port) as client:
        assert client.get().count(b"data: ") == EVENTS
        assert client.chunks < EVENTS / 4


@pytest.mark.parametrize("snippet", [code for framework, code in SNIPPETS if framework == "mcp"])
def test_line_gives_tools_their_token(snippet: str) -> None:
    """A tool of an app that it is applied to has one, and its progress arrives."""
    tools = Tools()
    names = {"SSEBatchingMiddleware": SSEBatchingMiddleware, "server": tools.server}
    tools.app = app_made_by(snippet, names)
    assert progress_of(tools, "auto") == list(range(STEPS))


def test_every_framework_has_its_line() -> None:
    """A section without one would not be noticed otherwise."""
    sections = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert [name.lower().replace("-", "_") for name in sections] == list(dict(SNIPPETS))
