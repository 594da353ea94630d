"""Which event loops the async tests run on, and the check that no test blocks its loop.

An async test runs on all of `EVERY_LOOP`: asyncio in debug mode, asyncio with eager tasks (from
Python 3.12 on), uvloop, and trio. A test about hours, or about the order of events, runs on all of
`VIRTUAL_TIME`, the same loops on a virtual clock. uvloop is not among them, because its clock
cannot be moved. A test that runs on fewer loops says why:

    pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]
    @loops(REAL_TIME, because="Task.cancel is asyncio's")
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import hypothesis  # noqa: F401 (before the freeze below: it looks for references to its own objects)
import pytest
import uvloop
from trio.testing import MockClock

from tests.support import blocking
from tests.support.virtual_time import virtual_time_loop

Loop: TypeAlias = Any  # pytest has no public name for what `pytest.param` makes


def eager(make: Callable[[], asyncio.AbstractEventLoop]) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return a factory of the same loop with eager tasks."""

    def make_eager() -> asyncio.AbstractEventLoop:
        loop = make()
        factory: Callable[..., Any] = vars(asyncio)["eager_task_factory"]  # Python 3.12
        loop.set_task_factory(factory)
        return loop

    return make_eager


def on_asyncio(name: str, make: Callable[[], asyncio.AbstractEventLoop], **options: bool) -> Loop:
    """Return a value of `anyio_backend`: asyncio with this loop. `options` are anyio's."""
    return pytest.param(("asyncio", {"loop_factory": make, **options}), id=name)


def on_trio(name: str, make_clock: Callable[[], MockClock]) -> Loop:
    """Return a value of `anyio_backend`: trio with this clock, made anew for each test."""
    return pytest.param(("trio", {"clock": make_clock}), id=name)


HAS_EAGER_TASKS = sys.version_info >= (3, 12)

VIRTUAL = on_asyncio("virtual-time", virtual_time_loop, debug=True)
VIRTUAL_EAGER = on_asyncio("virtual-time-eager", eager(virtual_time_loop), debug=True)
VIRTUAL_TRIO = on_trio("virtual-time-trio", partial(MockClock, autojump_threshold=0))
VIRTUAL_ASYNCIO = [VIRTUAL, *([VIRTUAL_EAGER] if HAS_EAGER_TASKS else [])]
VIRTUAL_TIME = [*VIRTUAL_ASYNCIO, VIRTUAL_TRIO]

DEBUG = on_asyncio("asyncio-debug", asyncio.new_event_loop, debug=True)
EAGER = on_asyncio("asyncio-eager", eager(asyncio.new_event_loop), debug=True)
UVLOOP = on_asyncio("uvloop", uvloop.new_event_loop)
TRIO = pytest.param(("trio", {}), id="trio")
REAL_TIME = [DEBUG, UVLOOP, *([EAGER] if HAS_EAGER_TASKS else [])]
EVERY_LOOP = [*REAL_TIME, TRIO]


def loops(which: Sequence[Loop], *, because: str = "") -> pytest.MarkDecorator:
    """Return the mark for the loops that a test, or a module of tests, runs on.

    `because` is the reason for leaving out others, if any are left out.
    """
    complete = any(all(loop in which for loop in all_) for all_ in (EVERY_LOOP, VIRTUAL_TIME))
    if not complete and not because:
        raise ValueError("a test that does not run on all loops says why: pass `because`")
    return pytest.mark.loops(which)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "loops(which): the event loops that a test runs on")


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker("loops")
    if mark is not None and "anyio_backend" in metafunc.fixturenames:
        (which,) = mark.args
        metafunc.definition.add_marker(
            pytest.mark.parametrize("anyio_backend", which, indirect=True)
        )


@pytest.fixture(params=EVERY_LOOP)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Return the loop of an async test: that of its mark `loops`, or each one of `EVERY_LOOP`."""
    return with_new_clock(request.param)


def with_new_clock(backend: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Make the trio clock of this value of `anyio_backend`, if it has one.

    A test on the clock of the test before would see times that are not exact.
    """
    name, options = backend
    if "clock" in options:
        options = {**options, "clock": options["clock"]()}
    return name, options


@pytest.fixture(autouse=True)
def nothing_blocks_the_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test if it blocks its event loop, or that of a server in a thread of the process."""
    if request.node.get_closest_marker("browser"):
        # playwright runs an event loop in the test's thread, where the test itself may block.
        yield
        return
    with blocking.refused() as calls:
        yield
    assert not calls, f"blocking calls in an event loop: {calls}"


@pytest.fixture(scope="session", autouse=True)
def everything_is_collected_in_the_end() -> Iterator[None]:
    """Let pytest's last garbage collection find what was frozen between the tests."""
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def nothing_is_left_suspended(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect the garbage of each async test, so that a coroutine that the test leaves suspended
    fails that test, and not some later one.

    Everything that was there before the test is frozen. pytest keeps some 40 objects of each test
    to the end of the session: to look through all of them took half of the time of a run.
    """
    is_async = "anyio_backend" in request.fixturenames
    if is_async:
        gc.collect()
        gc.freeze()
    yield
    if is_async:
        gc.collect()
