"""The options of a middleware that is given none, for parts that are tested without it."""

from __future__ import annotations

from typing import Any, Final

from sse_batching._options import Options

DEFAULTS: Final[dict[str, Any]] = {
    "max_delay": 0.05,
    "max_batch_bytes": 65_536,
    "media_types": frozenset({b"text/event-stream"}),
    "keepalive_interval": None,
    "send_timeout": 30,
    "grace_period": 5,
    "record_bytes": 0,
    "merge": (),
    "flush_on": frozenset(),
    "max_merged_bytes": 16_384,
    "enabled": None,
    "on_close": None,
}


def default_options(**changes: Any) -> Options:
    """Return the default options with these changes."""
    return Options(**{**DEFAULTS, **changes})
