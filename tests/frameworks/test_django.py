"""Django beyond what every framework has: a plain iterator."""

from __future__ import annotations

import pytest

from tests.frameworks.jobs import EVENTS, Job
from tests.frameworks.on_django import wrapped
from tests.support.clients import Client
from tests.support.servers import serving
from tests.support.streams import event


@pytest.mark.filterwarnings(
    # That is its advice to use an async one.
    "ignore:StreamingHttpResponse must consume synchronous iterators:Warning"
)
def test_plain_iterator_is_read_to_its_end_and_comes_whole() -> None:
    """Django has all of it in hands before it sends the first part: then there is no agent to
    stop, and the parts go out in a few writes."""
    with serving(wrapped(Job())) as port, Client(port) as client:
        assert client.get("/blocking") == b"".join(map(event, range(EVENTS)))
        assert client.chunks < EVENTS / 4
