"""In every framework, a stream arrives in fewer chunks with the same bytes."""

from __future__ import annotations

from tests.frameworks.jobs import EVENTS, Job, Setup
from tests.frameworks.setups import each_setup, whole_body


@each_setup
def test_stream_arrives_in_fewer_chunks_with_the_same_bytes(setup: Setup) -> None:
    """The bytes are those of the framework without the middleware, with each event once."""
    bare, _ = whole_body(setup, Job(bare=True))
    body, chunks = whole_body(setup, Job())
    assert body == bare
    assert body.count(b"data: ") == EVENTS
    assert chunks < EVENTS / 4
