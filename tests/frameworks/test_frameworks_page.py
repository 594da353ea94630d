"""Every snippet of docs/frameworks.md adds the middleware to its framework."""

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
from tests.frameworks import (
    on_blacksheep,
    on_emmett,
    on_falcon,
    on_fastapi,
    on_litestar,
    on_quart,
    on_sanic,
    on_starlette,
)
from tests.frameworks.jobs import EVENTS, Job
from tests.frameworks.on_django import WithJob
from tests.frameworks.page import PAGE, SNIPPETS, run
from tests.frameworks.test_mcp import STEPS, Tools, progress_of
from tests.support.clients import Client
from tests.support.servers import serving

TESTED_ELSEWHERE: Final = {"langgraph", "mcp", "uvicorn"}


def names_for(framework: str) -> dict[str, Any]:
    """Return the names that a snippet may use: an app, the parts of an app, and its imports."""
    routes = [Route("/", on_starlette.streaming(Job()))]
    bare = Job(bare=True)
    apps: dict[str, Any] = {
        "starlette": Starlette(routes=routes),
        "fastapi": on_fastapi.response(bare),
        "sse_starlette": on_starlette.sse_starlette(bare),
        "litestar": on_litestar.app_of(bare, events=False, middleware=[]),
        "quart": on_quart.plain(bare),
        "django": None,
        "sanic": on_sanic.plain(bare),
        "blacksheep": on_blacksheep.content(bare),
        "falcon": on_falcon.stream(bare),
        "emmett": on_emmett.plain(bare),
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
    names = run(snippet, **names)
    app: ASGIApp = names.get("application") or names["app"]
    return app


@pytest.mark.parametrize(
    ("framework", "snippet"),
    [pair for pair in SNIPPETS if pair[0] not in TESTED_ELSEWHERE],
    ids=str,
)
def test_snippet_makes_a_stream_arrive_in_fewer_chunks(framework: str, snippet: str) -> None:
    """An app with the snippet batches its stream."""
    app = app_made_by(snippet, names_for(framework))
    with serving(app) as port, Client(port) as client:
        assert client.get().count(b"data: ") == EVENTS
        assert client.chunks < EVENTS / 4


@pytest.mark.parametrize("snippet", [code for framework, code in SNIPPETS if framework == "mcp"])
def test_snippet_gives_tools_their_token(snippet: str) -> None:
    """A tool of an app with the snippet can get its token, and its progress arrives."""
    tools = Tools()
    names = {"SSEBatchingMiddleware": SSEBatchingMiddleware, "server": tools.server}
    tools.app = app_made_by(snippet, names)
    assert progress_of(tools, "auto") == list(range(STEPS))


def test_every_framework_has_a_snippet() -> None:
    """Each section of the page has a snippet, so the tests above leave no framework out."""
    frameworks, *_ = PAGE.partition("\n## Programs\n")
    sections = re.findall(r"^## (.+)$", frameworks, re.MULTILINE)
    named = [name for name in dict(SNIPPETS) if name != "uvicorn"]
    assert [name.lower().replace("-", "_") for name in sections] == named
