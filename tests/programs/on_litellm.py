"""LiteLLM's proxy: the module that its users have to write, and give to uvicorn."""

from __future__ import annotations

import os

from litellm.proxy.proxy_server import app  # type: ignore[import-not-found]

from sse_batching import SSEBatchingMiddleware

if "BARE" not in os.environ:
    app = SSEBatchingMiddleware(app)
