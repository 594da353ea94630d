"""What only Django has: a plain iterator that streams."""

from __future__ import annotations

import pytest

from tests.frameworks.jobs import EVENTS, Job
from tests.frameworks.on_django import wrapped
from tests.support.clients import Client
from tests.support.servers import serving
from tests.support.streams import event


@pytest.mark.filterwarnings(
    # Django advises to use an async iterator.
    "ignore:StreamingHttpResponse must consume synchronous iterators:Warning"
)
def test_plain_iterator_arrives_whole_in_fewer_chunks() -> None:
    """Django reads the iterator to its end before it sends the first part, so there is no agent to
    stop."""
    with serving(wrapped(Job())) as port, Client(port) as client:
        assert client.get("/blocking") == b"".join(map(event, range(EVENTS)))
        assert client.chunks < EVENTS / 4
