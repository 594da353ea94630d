"""Threads that set off together, with a bound on how long a test waits for them."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Final

PATIENCE: Final = 10.0
"""Seconds after which a wait for a thread gives up: a test that comes to this has failed."""


def in_thread(function: Callable[[], object]) -> Future[object]:
    """Call the function in a thread of its own, which does not outlive the tests if it hangs."""
    future = Future[object]()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def together(functions: Sequence[Callable[[], object]]) -> list[object]:
    """Call each function in a thread of its own, all at once; what they return, in their order."""
    start = threading.Barrier(len(functions))

    def run(function: Callable[[], object]) -> object:
        start.wait(PATIENCE)
        return function()

    futures = [in_thread(partial(run, function)) for function in functions]
    return [future.result(PATIENCE) for future in futures]


@contextmanager
def running(*functions: Callable[[], object]) -> Iterator[list[Future[object]]]:
    """Threads beside the block, waited for at its end; what they raise is raised there."""
    futures = [in_thread(function) for function in functions]
    yield futures
    for future in futures:
        future.result(PATIENCE)


def until_blocked(module: ModuleType, threads: int) -> None:
    """Wait until so many threads are blocked in a wait that the module makes."""
    limit = time.monotonic() + PATIENCE
    while _blocked_in(module) < threads:
        assert time.monotonic() < limit, f"there are not {threads} threads blocked in {module}"
        time.sleep(0.001)


def _blocked_in(module: ModuleType) -> int:
    stacks = [
        [frame.f_code for frame, _ in traceback.walk_stack(top)]
        for top in sys._current_frames().values()
    ]
    return sum(
        threading.Condition.wait.__code__ in stack[:2]  # the lock's `acquire` may be wrapped
        and any(code.co_filename == module.__file__ for code in stack)
        for stack in stacks
    )


@contextmanager
def eager_switching() -> Iterator[None]:
    """Let the interpreter change threads as often as it can, so that races are met."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
