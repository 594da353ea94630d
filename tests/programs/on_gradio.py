"""gradio: a function that streams, behind `mount_gradio_app` and behind `launch`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any, Final

import gradio  # type: ignore[import-not-found]
from fastapi import FastAPI
from starlette.middleware import Middleware

from sse_batching import SSEBatchingMiddleware

EVENTS: Final = 100
BARE: Final = "BARE" in os.environ


async def answer(question: str) -> AsyncIterator[str]:
    number = 0
    try:
        for number in range(EVENTS):
            yield f"{number} "
            await asyncio.sleep(0.01)
    finally:
        print("answered", number + 1, flush=True)


with gradio.Blocks() as demo:
    box: Any = gradio.Textbox()
    box.submit(answer, box, box, api_name="answer")

app = gradio.mount_gradio_app(FastAPI(), demo, path="/")
if not BARE:
    app.add_middleware(SSEBatchingMiddleware)

if __name__ == "__main__":
    middleware = [] if BARE else [Middleware(SSEBatchingMiddleware)]
    demo.launch(app_kwargs={"middleware": middleware}, quiet=False)
