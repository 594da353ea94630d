"""What frameworks leave behind on purpose, and what their own code warns of."""

from __future__ import annotations

import pytest
import sse_starlette.sse


@pytest.fixture(autouse=True)
def no_shutdown_watcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """sse-starlette has one task for each event loop, which outlives every request and looks twice
    a second whether the server shuts down: no server of these tests could end while it runs."""
    monkeypatch.setattr(sse_starlette.sse, "_ensure_watcher_started_on_this_loop", lambda: None)
