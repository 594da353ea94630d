"""All frameworks, in all setups, and clients that read from them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.frameworks import (
    on_blacksheep,
    on_django,
    on_emmett,
    on_falcon,
    on_fastapi,
    on_litestar,
    on_quart,
    on_sanic,
    on_starlette,
)
from tests.frameworks.jobs import Job, Setup
from tests.support.clients import Client
from tests.support.servers import serving

SETUPS: Final = [
    *on_starlette.SETUPS,
    *on_fastapi.SETUPS,
    *on_litestar.SETUPS,
    *on_quart.SETUPS,
    *on_django.SETUPS,
    *on_sanic.SETUPS,
    *on_blacksheep.SETUPS,
    *on_falcon.SETUPS,
    *on_emmett.SETUPS,
]


def _each(setups: list[Setup]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("setup", setups, ids=str)


each_setup = _each(SETUPS)
each_that_listens = _each([setup for setup in SETUPS if setup.listens])
each_that_never_listens = _each([setup for setup in SETUPS if not setup.listens])
each_with_background_tasks = _each([setup for setup in SETUPS if setup.background])
asked_or_not = pytest.mark.parametrize("ask", [False, True], ids=["never-asked", "asked"])

django_leaves_a_file_open = pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning"
)
"""Django leaves the file for the body of a request open if its handler is cut short. The warning
comes when the file is collected."""

HEADERS: Final = [("accept-encoding", "gzip")]


@contextmanager
def streaming(setup: Setup, job: Job) -> Iterator[Client]:
    """Serve the job, and yield a client that has begun to read.

    At the end of the block the client leaves, and the server waits for its requests to end.
    """
    with serving(setup.make(job)) as port, Client(port) as client:
        begin(client, setup)
        yield client


def begin(client: Client, setup: Setup) -> None:
    """Send a request, and read until the first event has come."""
    client.ask(headers=HEADERS)
    headers = dict(client.read_start().headers)
    assert (headers.get(b"content-encoding") == b"gzip") is setup.gzipped
    client.read_body(until=b"\x1f\x8b" if setup.gzipped else b"data: 0")


def whole_body(setup: Setup, job: Job) -> tuple[bytes, int]:
    """Return the body that a client reads to the end, and the number of its chunks."""
    with serving(setup.make(job)) as port, Client(port) as client:
        client.ask(headers=HEADERS)
        headers = dict(client.read_start().headers)
        body = client.read_body()
    assert (headers.get(b"content-encoding") == b"gzip") is setup.gzipped
    return zlib.decompress(body, zlib.MAX_WBITS | 16) if setup.gzipped else body, client.chunks
