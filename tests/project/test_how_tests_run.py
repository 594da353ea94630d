"""tests/conftest.py fails a test that blocks its event loop, warns or takes too long."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import pytest
from blockbuster import BlockingError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware, current_token
from sse_batching.testing import Conversation
from tests.conftest import EVERY_LOOP, TRIO, UVLOOP, VIRTUAL_TIME, loops
from tests.support import blocking
from tests.support.apps import start
from tests.support.clients import Client
from tests.support.servers import KINDS, REPOSITORY, Kind, serving
from tests.support.streams import Watched

TESTS: Final = Path(__file__).parents[1]


@pytest.mark.anyio
@loops([*VIRTUAL_TIME, *EVERY_LOOP])
async def test_a_call_that_blocks_the_loop_raises() -> None:
    """This app waits for its token in a way that only a thread may."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        await send(start())
        token.wait(1)

    with blocking.refused() as calls:
        async with Conversation(SSEBatchingMiddleware(app)) as talk:
            await talk.ended()
    (call,) = calls
    assert call.startswith("lock.acquire, called by:")
    assert isinstance(talk.error, BlockingError)


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_blocks_the_loop_of_a_server_is_found(kind: Kind) -> None:
    """The server runs in a thread of this process. The call is found even if the app suppresses the
    error."""

    async def handler(request: Request) -> Response:
        with suppress(Exception):
            time.sleep(0)  # noqa: ASYNC251
        return PlainTextResponse("fine")

    app = Watched().serve(handler)
    with blocking.refused() as calls, serving(app, kind) as port, Client(port) as client:
        assert client.get() == b"fine"
    assert [call.partition(",")[0] for call in calls] == ["time.sleep"]


@pytest.mark.anyio
async def test_a_thread_may_block() -> None:
    """A thread in which no event loop runs may block."""
    with blocking.refused() as calls:
        await anyio.to_thread.run_sync(time.sleep, 0)
    assert calls == []


def test_leaving_out_a_loop_needs_a_reason() -> None:
    """`loops` raises without a reason."""
    with pytest.raises(ValueError, match="says why"):
        loops([UVLOOP, TRIO])
    assert loops([UVLOOP, TRIO], because="it is about signals")


def test_loops_are_chosen_in_one_way() -> None:
    """A test chooses by `loops`, which wants a reason, and a whole folder by its conftest.py, which
    begins with the reason."""
    chosen = re.compile(r"def anyio_backend\(|parametrize\(\s*.anyio_backend")
    own = {
        path.relative_to(TESTS).as_posix()
        for path in TESTS.rglob("*.py")
        if chosen.search(path.read_text()) and path != Path(__file__)
    }
    assert own == {"conftest.py", "properties/conftest.py"}


FAULTY_TESTS: Final = """
import time, warnings
import anyio, pytest
from tests.conftest import *

pytestmark = pytest.mark.anyio

async def test_blocks():
    time.sleep(0)

async def test_blocks_and_goes_on():
    try:
        time.sleep(0)
    except Exception:
        pass

async def test_warns():
    warnings.warn("something")

async def test_forgets_to_await():
    anyio.sleep(0)

async def test_waits_without_end():
    await anyio.sleep_forever()

async def test_spins_without_end():
    while True:
        await anyio.sleep(0)
"""


@pytest.mark.slow
def test_a_faulty_test_fails_on_every_loop(tmp_path: Path) -> None:
    """The settings are those of this project, but with a shorter time limit."""
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "test_faulty.py").write_text(FAULTY_TESTS)
    command = [sys.executable, "-m", "pytest", "-n", "1", "-q", "-c", "pyproject.toml"]
    command += ["--max-worker-restart=99"]  # a hung test takes its worker with it
    command += ["-o", "timeout=1", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path)]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=50, check=False
    )
    failed = set(re.findall(r"(?:FAILED|ERROR) \S*::(\w+\[[\w-]+\])", done.stdout))
    tests = re.findall(r"def (test_\w+)", FAULTY_TESTS)
    assert failed == {f"{test}[{loop.id}]" for test in tests for loop in EVERY_LOOP}, done.stdout
