"""What tests/conftest.py promises of every test: no blocking calls, no warnings, a time limit."""

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
async def test_a_call_that_blocks_the_loop_is_refused() -> None:
    """On every loop: here an app waits for its token as only a thread may."""

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
    """It runs in a thread of this process. Also if the app takes the error for something else."""

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
    """It is what threads are for: those beside a loop, and those without one."""
    with blocking.refused() as calls:
        await anyio.to_thread.run_sync(time.sleep, 0)
    assert calls == []


def test_whoever_does_not_run_on_every_loop_says_why() -> None:
    """`loops` wants a reason for it."""
    with pytest.raises(ValueError, match="says why"):
        loops([UVLOOP, TRIO])
    assert loops([UVLOOP, TRIO], because="it is about signals")


def test_loops_are_chosen_in_one_way() -> None:
    """By `loops`, which wants a reason; and where that is so for a whole directory, by its
    conftest.py, which begins with one."""
    chosen = re.compile(r"def anyio_backend\(|parametrize\(\s*.anyio_backend")
    own = {
        path.relative_to(TESTS).as_posix()
        for path in TESTS.rglob("*.py")
        if chosen.search(path.read_text()) and path != Path(__file__)
    }
    assert own == {"conftest.py", "properties/conftest.py"}


SICK: Final = """
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

async def test_waits_for_ever():
    await anyio.sleep_forever()

async def test_spins_for_ever():
    while True:
        await anyio.sleep(0)
"""


@pytest.mark.slow
def test_a_sick_test_fails_on_every_loop(tmp_path: Path) -> None:
    """With the settings of this project, but for a shorter time limit."""
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "test_sick.py").write_text(SICK)
    command = [sys.executable, "-m", "pytest", "-n", "1", "-q", "-c", "pyproject.toml"]
    command += ["--max-worker-restart=99"]  # a hung test takes its worker with it
    command += ["-o", "timeout=1", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path)]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=50, check=False
    )
    sick = set(re.findall(r"(?:FAILED|ERROR) \S*::(\w+\[[\w-]+\])", done.stdout))
    tests = re.findall(r"def (test_\w+)", SICK)
    assert sick == {f"{test}[{loop.id}]" for test in tests for loop in EVERY_LOOP}, done.stdout
