"""In every framework a stream arrives in fewer pieces, and is the same."""

from __future__ import annotations

from tests.frameworks.jobs import EVENTS, Job, Setup
from tests.frameworks.setups import each_setup, whole_body


@each_setup
def test_stream_comes_in_fewer_chunks_and_is_the_same(setup: Setup) -> None:
    """The same bytes as from the bare framework, each event once, in a few writes."""
    bare, _ = whole_body(setup, Job(bare=True))
    body, chunks = whole_body(setup, Job())
    assert body == bare
    assert body.count(b"data: ") == EVENTS
    assert chunks < EVENTS / 4
