"""Threads that start at the same time, with a limit on how long a test waits for them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Final

PATIENCE: Final = 10.0
"""Seconds after which a wait for a thread fails, and the test with it."""


def in_thread(function: Callable[[], object]) -> Future[object]:
    """Call the function in a daemon thread: if it hangs, the process of the tests still ends."""
    future = Future[object]()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - `result` raises it
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def together(functions: Sequence[Callable[[], object]]) -> list[object]:
    """Call all functions at the same time, in a thread each. Return their results in order."""
    start = threading.Barrier(len(functions))

    def run(function: Callable[[], object]) -> object:
        start.wait(PATIENCE)
        return function()

    futures = [in_thread(partial(run, function)) for function in functions]
    return [future.result(PATIENCE) for future in futures]


@contextmanager
def running(*functions: Callable[[], object]) -> Iterator[list[Future[object]]]:
    """Run functions in threads beside the block. Its end waits for them and raises their errors."""
    futures = [in_thread(function) for function in functions]
    yield futures
    for future in futures:
        future.result(PATIENCE)


def until(happened: Callable[[], bool]) -> None:
    """Wait until other threads have made this true."""
    limit = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < limit
        time.sleep(0.001)


@contextmanager
def eager_switching() -> Iterator[None]:
    """Let the interpreter switch threads as often as it can, so that races happen."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
