"""A body that is no valid event stream passes byte for byte."""

from __future__ import annotations

import pytest

from sse_batching import SSEBatchingMiddleware
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import converse, emitting

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]


BODIES: dict[str, list[bytes]] = {
    "no-blank-line-ever": [b"data: token "] * 500,
    "no-line-end-ever": [b"x" * 999] * 200,
    "nul-bytes": [b"data: \0\0\n\n", b"\0", b"id: \0\n\n"],
    "half-a-character": [b"data: \xc3", b"\xa9\n\n", b"data: \xe2\x82"],
    "no-characters-at-all": [b"\xff\xfe", b"\x80\x81", bytes(range(256))],
    "a-byte-order-mark-in-the-middle": [b"\xef\xbb\xbfdata: 1\n\n", b"\xef\xbb\xbfdata: 2\n\n"],
    "compressed": [b"\x1f\x8b\x08\x00", b"\n\n:\n\n\r\n\r\n", b"\x00" * 20],
    "blank-lines-only": [b"\n"] * 100,
    "carriage-returns-only": [b"\r"] * 100,
    "one-line-of-a-megabyte": [b"data: ", b"x" * 1_000_000, b"\n\n"],
}


@pytest.mark.parametrize("keepalive_interval", [None, 60], ids=["", "keepalive"])
@pytest.mark.parametrize("pause", [0, 0.02, 0.06])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_an_invalid_event_stream_passes_byte_for_byte(
    body: list[bytes], pause: float, keepalive_interval: float | None
) -> None:
    """All bytes of an invalid event stream are delivered. The middleware neither waits for the end
    of an event nor decodes any bytes. Pitfall 42."""
    steps = [step for part in body[:100] for step in (part, pause)]
    app = SSEBatchingMiddleware(emitting(*steps), keepalive_interval=keepalive_interval)
    talk = await converse(app)
    assert talk.body == b"".join(body[:100])
    assert talk.completed
