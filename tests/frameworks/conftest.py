"""A task that sse-starlette leaves running on purpose, and that these tests cannot have."""

from __future__ import annotations

import pytest
import sse_starlette.sse


@pytest.fixture(autouse=True)
def no_shutdown_watcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep sse-starlette from starting its shutdown watcher.

    The watcher is one task for each event loop. It outlives every request, and checks twice a
    second whether the server shuts down. No server of these tests could end while it runs.
    """
    monkeypatch.setattr(sse_starlette.sse, "_ensure_watcher_started_on_this_loop", lambda: None)
