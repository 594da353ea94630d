"""What the middleware costs a request that does not stream: server CPU, in interleaved rounds.

    python -m benchmarks.requests

The server has one core to itself and the client another, where there are two. `CancelScope` is
there to show what an anyio scope around every request would cost.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware

CONNECTIONS = 16
REQUEST = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def hello(request: Request) -> JSONResponse:
    return JSONResponse({"hello": "world"})


async def cpu(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(time.process_time()))


class Scoped:
    """Runs the app in a cancel scope, and does nothing else."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with anyio.CancelScope():
            await self.app(scope, receive, send)


def plain() -> ASGIApp:
    return Starlette(routes=[Route("/hello", hello), Route("/cpu", cpu)])


def batched() -> ASGIApp:
    return SSEBatchingMiddleware(plain())


def scoped() -> ASGIApp:
    return Scoped(plain())


VARIANTS = {"bare": plain, "SSEBatchingMiddleware": batched, "CancelScope": scoped}


@contextmanager
def serving(factory: str) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", f"benchmarks.requests:{factory}"]
    server = subprocess.Popen(
        [*command, "--port", str(port), "--no-access-log", "--log-level", "warning"]
    )
    try:
        if (os.cpu_count() or 1) > 1:
            os.sched_setaffinity(server.pid, {0})
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                time.sleep(0.05)
            else:
                break
        yield port
    finally:
        server.terminate()
        server.wait()


def server_cpu(port: int) -> float:
    return float(httpx.get(f"http://127.0.0.1:{port}/cpu").text)


def microseconds_per_request(port: int, requests: int) -> float:
    """Server CPU for one request, over `requests` of them on kept-alive connections."""
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    before = server_cpu(port)
    for _ in range(requests // CONNECTIONS):
        for client in clients:
            client.sendall(REQUEST)
        for client in clients:
            while not client.recv(65_536).endswith(b"}"):  # uvicorn sends head and body apart
                pass
    used = server_cpu(port) - before
    for client in clients:
        client.close()
    return used / requests * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=32_000)
    options = parser.parse_args()
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {1})
    taken: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(options.rounds):
        for name, factory in VARIANTS.items():
            with serving(factory.__name__) as port:
                microseconds_per_request(port, 3_200)  # to warm up
                taken[name].append(microseconds_per_request(port, options.requests))
    bare = statistics.median(taken["bare"])
    for name, values in taken.items():
        median = statistics.median(values)
        print(
            f"{name:22} {median:6.1f} µs CPU a request ({min(values):.1f} to {max(values):.1f}), "
            f"{bare / median:.2f} of the requests/s"
        )


if __name__ == "__main__":
    main()
