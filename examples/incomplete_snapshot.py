"""Keep each answer in SQLite, also the part of an answer that was made before its reader left.

    python examples/incomplete_snapshot.py
    curl -N -i -X POST http://127.0.0.1:8000/responses
    curl http://127.0.0.1:8000/responses/...

Press Ctrl-C in the first curl while it streams. The second curl then reads the part of the answer
that was made. The header `response-id` of the first response has the id to ask for.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing

import anyio
import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sse_batching import SSEBatchingMiddleware, StreamReport, current_stream

DATABASE = "responses.sqlite3"
TABLE = "CREATE TABLE IF NOT EXISTS responses (id TEXT PRIMARY KEY, status TEXT, text TEXT)"
TEXT = "Half an answer is worth more than none, as long as it says that it is half. " * 20
SECONDS_PER_WORD = 0.0125


async def answer() -> AsyncIterator[str]:
    for word in TEXT.split():
        await anyio.sleep(SECONDS_PER_WORD)
        yield f"data: {json.dumps({'delta': word + ' '})}\n\n"
    yield "data: [DONE]\n\n"


async def create(request: Request) -> Response:
    # In a header, so that the client has the id before the first word.
    headers = {"response-id": current_stream().id}
    return StreamingResponse(answer(), media_type="text/event-stream", headers=headers)


async def show(request: Request) -> Response:
    row = await anyio.to_thread.run_sync(load, request.path_params["id"])
    if row is None:
        return JSONResponse({"error": "unknown, or still being written"}, status_code=404)
    return JSONResponse(dict(zip(("id", "status", "text"), row, strict=True)))


async def keep(report: StreamReport) -> None:
    """Store the answer. The middleware calls this when a stream has ended, in whatever way."""
    await anyio.to_thread.run_sync(
        store, report.stream_id, report.outcome, text_of(report.recorded)
    )


def text_of(recorded: bytes) -> str:
    # What follows the last empty line is part of an event that the end or `record_bytes` cut off.
    *events, _ = recorded.split(b"\n\n")
    data = [event.removeprefix(b"data: ") for event in events]
    return "".join(json.loads(item)["delta"] for item in data if item != b"[DONE]")


def store(response_id: str, status: str, text: str) -> None:
    with closing(sqlite3.connect(DATABASE)) as database, database:
        database.execute(TABLE)
        database.execute("INSERT INTO responses VALUES (?, ?, ?)", (response_id, status, text))


def load(response_id: str) -> tuple[str, str, str] | None:
    with closing(sqlite3.connect(DATABASE)) as database:
        database.execute(TABLE)
        query = "SELECT id, status, text FROM responses WHERE id = ?"
        row: tuple[str, str, str] | None = database.execute(query, (response_id,)).fetchone()
        return row


app = Starlette(
    routes=[Route("/responses", create, methods=["POST"]), Route("/responses/{id}", show)]
)
app.add_middleware(SSEBatchingMiddleware, record_bytes=1_000_000, on_close=keep)


if __name__ == "__main__":
    uvicorn.run(app)
