"""Which event loops the async tests run on."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest
import trio.testing
import uvloop

from tests.support.virtual_time import VirtualTimeLoop

VIRTUAL = pytest.param(
    ("asyncio", {"debug": True, "loop_factory": VirtualTimeLoop}), id="virtual-time"
)
VIRTUAL_TRIO = pytest.param(
    ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}), id="virtual-time-trio"
)
VIRTUAL_TIME = [VIRTUAL, VIRTUAL_TRIO]
DEBUG = pytest.param(("asyncio", {"debug": True}), id="asyncio-debug")
UVLOOP = pytest.param(("asyncio", {"loop_factory": uvloop.new_event_loop}), id="uvloop")


def eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    factory: Callable[..., Any] = vars(asyncio)["eager_task_factory"]  # Python 3.12
    loop.set_task_factory(factory)
    return loop


EAGER = [pytest.param(("asyncio", {"loop_factory": eager_loop}), id="asyncio-eager")]
TRIO = pytest.param(("trio", {}), id="trio")
REAL_TIME = [DEBUG, UVLOOP, *(EAGER if sys.version_info >= (3, 12) else [])]

EVERY_LOOP = [*REAL_TIME, TRIO]


@pytest.fixture(params=REAL_TIME)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Tests with real time that are about asyncio. A module whose tests hold on trio too, or that
    has virtual time, overrides this fixture."""
    return request.param


@pytest.fixture(autouse=True)
def nothing_is_left_suspended(request: pytest.FixtureRequest) -> Any:
    """What a test leaves to the garbage collector shows in that test, not in some later one."""
    yield
    if "anyio_backend" in request.fixturenames:
        gc.collect()
