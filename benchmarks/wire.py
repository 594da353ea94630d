"""Print what goes over the wire in one second of an answer, without the middleware and with it.

python -m benchmarks.wire
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import anyio
import h11
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from sse_batching import SSEBatchingMiddleware

TOKENS = 80
TOKENS_PER_SECOND = 80


async def answer() -> AsyncIterator[str]:
    began = anyio.current_time()
    for position in range(TOKENS):
        await anyio.sleep_until(began + position / TOKENS_PER_SECOND)
        yield f"data: {json.dumps({'delta': f'word{position} '})}\n\n"


async def chat(request: Request) -> StreamingResponse:
    return StreamingResponse(answer(), media_type="text/event-stream")


def app(*, batched: bool) -> Starlette:
    starlette = Starlette(routes=[Route("/chat", chat)])
    if batched:
        starlette.add_middleware(SSEBatchingMiddleware)
    return starlette


@contextmanager
def serving(app: Starlette) -> Iterator[int]:
    """Serve the app, and yield its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def chunks(port: int) -> Iterator[tuple[float, bytes]]:
    """Yield the HTTP chunks of the response: when each arrived, in seconds, and its content."""
    connection = h11.Connection(h11.CLIENT)
    with socket.create_connection(("127.0.0.1", port)) as client:
        request = h11.Request(method="GET", target="/chat", headers=[("Host", "localhost")])
        client.sendall(connection.send(request) + connection.send(h11.EndOfMessage()))
        began = time.monotonic()
        chunk = b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(client.recv(65_536))
            elif isinstance(event, h11.Data):
                chunk += event.data
                if event.chunk_end:
                    yield time.monotonic() - began, chunk
                    chunk = b""


def main() -> None:
    for batched in (False, True):
        with serving(app(batched=batched)) as port:
            next(chunks(port))  # warm up: the first request of a server is the slowest
            taken = list(chunks(port))
        size = sum(len(chunk) for _, chunk in taken)
        print(
            f"{'with the middleware' if batched else 'without'}: {TOKENS} events, {size} bytes, "
            f"{len(taken)} writes"
        )
        for at, chunk in taken[:7]:
            print(f"  {at * 1000:4.0f} ms  {chunk.count(b'data:')} event(s)  {chunk[:50]!r}")


if __name__ == "__main__":
    main()
