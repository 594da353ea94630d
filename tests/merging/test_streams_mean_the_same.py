"""Properties of merging: streams of all formats, cut anywhere and flushed at any time."""

from __future__ import annotations

import os
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from sse_batching import formats
from sse_batching._merging import Format, Merger
from tests.merging.flushing import flushed
from tests.merging.generators import FORMATS, cuts, streams, uncut
from tests.merging.reference import accumulate

pytestmark = pytest.mark.slow

EXAMPLES: Final = int(os.environ.get("SSE_BATCHING_EXAMPLES", "25"))

thorough = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def known(format: str) -> tuple[Format, ...]:
    """Return all formats, as with `"auto"`. Plain text has to be asked for."""
    return (formats.PlainText(),) if format == "plain_text" else formats.auto


@pytest.mark.parametrize("format", FORMATS)
@thorough
@given(data=st.data())
def test_a_reader_cannot_tell(format: str, data: st.DataObject) -> None:
    """A merged stream has the same meaning: order is kept, and only adjacent events are merged."""
    events = data.draw(streams(format))
    body = b"".join(events)
    chunks = data.draw(st.one_of(uncut(events), cuts(body)))
    flushes = data.draw(
        st.lists(st.booleans(), min_size=len(chunks), max_size=len(chunks), unique=False)
    )
    merger = Merger(known(format), lines=format == "ollama")

    merged = flushed(merger, zip(chunks, flushes, strict=True))

    assert accumulate(format, merged) == accumulate(format, body)


@pytest.mark.parametrize("format", FORMATS)
@thorough
@given(data=st.data())
def test_what_is_flushed_after_every_event_is_untouched(format: str, data: st.DataObject) -> None:
    """A batch of one event is unchanged."""
    events = data.draw(streams(format))
    merger = Merger(known(format), lines=format == "ollama")

    assert flushed(merger, ((event, True) for event in events)) == b"".join(events)


@pytest.mark.parametrize("format", FORMATS)
@thorough
@given(data=st.data())
def test_merging_again_changes_nothing(format: str, data: st.DataObject) -> None:
    """Merging a merged stream does not change its meaning, and does not make it longer."""
    events = data.draw(streams(format))

    def merged(body: bytes) -> bytes:
        return flushed(Merger(known(format), lines=format == "ollama"), [(body, False)])

    once = merged(b"".join(events))
    assert accumulate(format, merged(once)) == accumulate(format, once)
    assert len(merged(once)) <= len(once)


@thorough
@given(
    body=st.binary(max_size=300) | st.text('data: {}[]"\r\nid:\\e', max_size=200).map(str.encode)
)
@pytest.mark.parametrize("lines", [False, True], ids=["events", "lines"])
def test_noise_passes_through_untouched(lines: bool, body: bytes) -> None:
    """Random bytes pass through unchanged, and no exception is raised."""
    merger = Merger(formats.auto, lines=lines)
    assert (
        flushed(merger, [(body[at : at + 7], at % 3 == 0) for at in range(0, len(body), 7)]) == body
    )
