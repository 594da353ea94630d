"""Blocking calls in an event loop raise an error where they are made, and fail the test.

blockbuster knows which calls block: sleeping, files, sockets that block, locks that are taken,
SQLite. It looks for a running loop in the thread of the call, which finds asyncio and uvloop, both
in the thread of the test and in that of a server. This module makes it find trio as well.

Not found: `with lock`, `SimpleQueue.get` and all other code that waits in C, a long calculation,
and anything in another process.
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
    ("freezegun/api.py", "start"): "freezegun looks at each name of each module, which may import",
    ("freezegun/api.py", "stop"): "the same",
    ("logging/__init__.py", "emit"): "the application chooses where its log goes; here, to a file",
    ("tests/support/threads.py", "running"): "at its end a test waits for its own threads",
    (
        "tests/unit/test_cancellation_waiting.py",
        "waiting_in_thread",
    ): "a test waits for another loop",
    (
        "tests/unit/test_cancellation_waiting.py",
        "block",
    ): "this test is about a loop that is blocked",
}
"""Places where a call may block a loop: the end of the file's path, the function, and why."""


class _RunningLoops:
    """A stand-in for the asyncio module, which blockbuster asks for the running loop."""

    @staticmethod
    def get_running_loop() -> object:
        if trio.lowlevel.in_trio_task():
            return trio.lowlevel.current_trio_token()
        return asyncio.get_running_loop()


@contextmanager
def refused() -> Iterator[list[str]]:
    """Let blocking calls raise `BlockingError` inside the block. Yield a list of these calls.

    The list shows them even if a server or a framework has caught the error.
    """
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
