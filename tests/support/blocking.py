"""Blocking calls in an event loop: each is refused where it is made, and fails the test.

What is known as blocking is what blockbuster knows: sleeping, files, sockets that block, locks that
are taken, SQLite. It looks for a running loop in the thread of the call, and so finds asyncio and
uvloop, in the thread of the test as in that of a server; here it is told of trio as well.

Not found: `with lock`, `SimpleQueue.get` and whatever else waits in C code, a long calculation, and
another process.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest import mock

import blockbuster.blockbuster as library
import trio.lowlevel
from blockbuster import BlockingError

ALLOWED: Final[dict[tuple[str, str], str]] = {
    ("fastapi/routing.py", "_extract_endpoint_context"): "FastAPI looks for an endpoint's source",
    ("logging/__init__.py", "emit"): "where the log goes is the application's choice; here, a file",
    ("tests/support/threads.py", "running"): "at its end a test waits for threads that it started",
    ("tests/unit/test_cancellation_waiting.py", "waiting_in_thread"): "it waits for another loop",
    ("tests/unit/test_cancellation_waiting.py", "block"): "a test about a loop that is blocked",
}
"""Where a call may block a loop: the end of the file's name, the function, and why."""


class _RunningLoops:
    """Takes the place of the asyncio module, of which the library asks for the running loop."""

    @staticmethod
    def get_running_loop() -> object:
        if trio.lowlevel.in_trio_task():
            return trio.lowlevel.current_trio_token()
        return asyncio.get_running_loop()


@contextmanager
def refused() -> Iterator[list[str]]:
    """Inside the block such calls raise `BlockingError`. Yields what was called: a server or a
    framework may have taken the error for the app's."""
    calls: list[str] = []

    class NotedError(BlockingError):
        def __init__(self, call: str) -> None:
            super().__init__(call)
            calls.append(f"{call}, called by:\n" + "".join(traceback.format_stack()[-8:-2]))

    patches: Any = {"asyncio": _RunningLoops, "BlockingError": NotedError}
    with mock.patch.multiple(library, **patches), library.blockbuster_ctx() as found:
        for file, function in ALLOWED:
            for wrapped in found.functions.values():
                wrapped.can_block_in(file, function)
        yield calls
