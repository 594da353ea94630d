"""Count what the hot paths cost. Counts, unlike times, are the same on every machine.

    python -m benchmarks.guard            # compare with the counts in guard.json
    python -m benchmarks.guard --write    # write the present counts into guard.json

A fixed script runs with the middleware and without it, on a server that does nothing, with a manual
clock. The difference of the two is what the middleware adds:

- `bytecodes`: instructions of the interpreter, in the package and in all that the package calls;
- `calls`: calls of functions written in C, which bytecodes do not show;
- `bytes`: memory of an open stream.

The counts depend on the version of Python, so guard.json has counts for each version.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

from sse_batching import SSEBatchingMiddleware
from sse_batching._types import ASGIApp, Message, Receive, Scope, Send
from sse_batching.testing import ManualClockLoop

WRITTEN: Final = Path(__file__).with_name("guard.json")
VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"

TOLERANCE: Final = 0.02
"""Largest relative change that is accepted. The counts are exact. But the C code behind bytecodes
takes most of the time, so less than a tenth of the bytecodes can be a tenth of the time."""

CHUNKS: Final = 10_000
CHUNKS_PER_WRITE: Final = 5
REQUESTS: Final = 1000
STREAMS: Final = 100

Costs = dict[str, float]

EVENT: Final = b"data: " + b"x" * 182 + b"\n\n"


# A server that does nothing, and apps that do little.


async def never() -> Message:
    """Wait as `receive` does while the client stays."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("not reached")


async def ignore(message: Message) -> None:
    """Take a message as the `send` of a server does that never waits."""


def scope() -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
    }


def start(media_type: bytes) -> Message:
    headers = [(b"content-type", media_type)]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def body(content: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start(b"application/json"))
    await send(body(b"{}", more=False))


async def chat(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a token every 10 ms."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ManualClockLoop)
    await send(start(b"text/event-stream"))
    for _ in range(CHUNKS):
        await send(body(EVENT, more=True))
        await loop.advance(0.05 / CHUNKS_PER_WRITE)
    await send(body(b"", more=False))


async def chat_flat_out(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start(b"text/event-stream"))
    for _ in range(CHUNKS):
        await send(body(EVENT, more=True))
    await send(body(b"", more=False))


async def brief(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start(b"text/event-stream"))
    await send(body(EVENT, more=True))
    await asyncio.sleep(0)
    await send(body(b"", more=False))


async def idle(scope: Scope, receive: Receive, send: Send) -> None:
    """Send one token, and wait."""
    await send(start(b"text/event-stream"))
    await send(body(EVENT, more=True))
    await never()


SCRIPT: Final[dict[str, tuple[ASGIApp, int, int]]] = {
    "chunk, 5 a write": (chat, 1, CHUNKS),
    "chunk, flat out": (chat_flat_out, 1, CHUNKS),
    "request": (hello, REQUESTS, REQUESTS),
    "stream, from beginning to end": (brief, STREAMS, STREAMS),
}
"""What is counted: the app, the number of calls, and the divisor of the count."""


# The counting.


def run(app: ASGIApp, times: int) -> None:
    async def requests() -> None:
        for _ in range(times):
            await app(scope(), never, ignore)

    with asyncio.Runner(loop_factory=ManualClockLoop) as runner:
        runner.run(requests())


def bytecodes(app: ASGIApp, times: int) -> int:
    count = 0

    def instruction(*where: object) -> None:
        nonlocal count
        count += 1

    if sys.version_info < (3, 12):
        trace_bytecodes(instruction)
        try:
            run(app, times)
        finally:
            sys.settrace(None)
        return count
    monitoring: Any = vars(sys)["monitoring"]
    tool, event = monitoring.PROFILER_ID, monitoring.events.INSTRUCTION
    monitoring.use_tool_id(tool, "guard")
    monitoring.register_callback(tool, event, instruction)
    monitoring.set_events(tool, event)
    try:
        run(app, times)
    finally:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)
    return count


def trace_bytecodes(instruction: Callable[[], None]) -> None:
    """Call `instruction` for each bytecode, with `sys.settrace`. It counts wrong on Python 3.12."""

    def each(frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode":
            instruction()
        return each

    def enter(frame: FrameType, event: str, argument: object) -> Any:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return each

    sys.settrace(enter)


def calls(app: ASGIApp, times: int) -> int:
    count = 0

    def each(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        if event == "c_call":
            count += 1

    sys.setprofile(each)
    try:
        run(app, times)
    finally:
        sys.setprofile(None)
    return count


def memory(app: ASGIApp) -> int:
    """Return the bytes in use for streams that are open."""

    async def serve() -> None:
        await app(scope(), never, ignore)

    async def opened(streams: int) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(serve()) for _ in range(streams)]
        for _ in range(10):  # more loop iterations than any stream needs
            await asyncio.sleep(0)
        gc.collect()
        return tasks

    async def used() -> int:
        tasks = await opened(1)
        tracemalloc.start()
        tasks += await opened(STREAMS)
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return size

    with asyncio.Runner(loop_factory=ManualClockLoop) as runner:
        return runner.run(used())


def measure() -> dict[str, Costs]:
    """Return what the middleware adds to each part of the script."""
    gc.disable()  # a collection would be counted with whatever runs at the time
    costs: dict[str, Costs] = {}
    for name, (app, times, divisor) in SCRIPT.items():
        batched = SSEBatchingMiddleware(app)
        run(batched, times)  # fills the caches
        costs[name] = {
            count.__name__: round((count(batched, times) - count(app, times)) / divisor, 2)
            for count in (bytecodes, calls)
        }
    added = memory(SSEBatchingMiddleware(idle)) - memory(idle)
    costs["open stream"] = {"bytes": round(added / STREAMS)}
    return costs


def measure_apart() -> dict[str, Costs]:
    """Return the counts of a new process, in which nothing is warmed up, traced or patched."""
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "benchmarks.guard", "--print"]
    output = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment, timeout=300
    ).stdout
    found: dict[str, Costs] = json.loads(output)
    return found


def written() -> dict[str, dict[str, Costs]]:
    """Return the counts in guard.json, by version of Python."""
    found: dict[str, dict[str, Costs]] = json.loads(WRITTEN.read_text())
    return found


def differences(costs: dict[str, Costs], expected: dict[str, Costs]) -> list[str]:
    """Return a line for each count that differs by more than the tolerance."""
    return [
        f"{name}: {now:g} {what}, {now / before - 1:+.1%} against {before:g}"
        for name, counts in expected.items()
        for what, before in counts.items()
        if abs((now := costs[name][what]) - before) > TOLERANCE * before
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write down what it costs now")
    parser.add_argument("--print", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.print:
        print(json.dumps(measure()))
        return
    costs = measure_apart()
    known = written() if WRITTEN.exists() else {}
    for name, counts in costs.items():
        print(f"{name}: {', '.join(f'{count:g} {what}' for what, count in counts.items())}")
    if options.write:
        known[VERSION] = costs
        WRITTEN.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n")
    elif VERSION not in known:
        print(f"nothing is written down for Python {VERSION}")
    elif changes := differences(costs, known[VERSION]):
        sys.exit("\n".join(["not as written down:", *changes]))


if __name__ == "__main__":
    main()
