"""`clients.final` shows every change of a stream except for the number of deltas.

It cannot show what the SDKs do not show: comments, pings, `[DONE]`, empty deltas.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tests.merging.clients import final
from tests.merging.samples import KINDS, Sample, chat, line, sse

pytestmark = pytest.mark.slow

MERGED: Final = [
    pytest.param(sample, id=f"{kind.__name__}-{number}")
    for kind in KINDS
    for number, sample in enumerate(kind())
]
STREAMS: Final = {(sample.format, sample.stream()): sample for kind in KINDS for sample in kind()}
CONTENT: Final = b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'
WHOLE: Final = pytest.mark.parametrize("sample", STREAMS.values(), ids=lambda one: one.format)


@pytest.mark.parametrize("sample", MERGED)
def test_two_deltas_merged_by_hand_mean_the_same(sample: Sample) -> None:
    merged = [*sample.events[: sample.first], sample.merged, *sample.events[sample.first + 2 :]]
    assert final(sample.format, b"".join(merged)) == final(sample.format, sample.stream())


def test_a_role_that_is_repeated_in_each_chunk_counts_once() -> None:
    """Repetitions of a role do not count: the SDK joins one "assistant" for each delta."""
    delta = CONTENT.replace(b'{"content', b'{"role":"assistant","content')
    split = final("openai-chat", delta % b"Hel" + delta % b"lo")
    assert split == final("openai-chat", delta % b"Hello")
    assert split != final("openai-chat", delta.replace(b"assistant", b"user") % b"Hello")


@WHOLE
def test_no_sample_makes_its_client_raise(sample: Sample) -> None:
    """The clients read each sample to its end."""
    assert "'raised'" not in repr(final(sample.format, sample.stream()))


def differing(sample: Sample, changed: Callable[[int], list[bytes]]) -> list[int]:
    """Return the positions at which a change gives the client another result."""
    expected = final(sample.format, sample.stream())
    positions = range(len(sample.events))
    return [at for at in positions if final(sample.format, b"".join(changed(at))) != expected]


@WHOLE
def test_a_dropped_event_is_missed(sample: Sample) -> None:
    events = sample.events
    seen = differing(sample, lambda at: [*events[:at], *events[at + 1 :]])
    assert seen == list(range(len(events)))


@WHOLE
def test_a_doubled_event_is_noticed(sample: Sample) -> None:
    events = sample.events
    seen = differing(sample, lambda at: [*events[: at + 1], *events[at:]])
    assert seen == list(range(len(events)))


@WHOLE
def test_an_event_that_changes_places_with_the_next_is_noticed(sample: Sample) -> None:
    events = sample.events
    seen = differing(
        sample, lambda at: [*events[:at], *events[at : at + 2][::-1], *events[at + 2 :]]
    )
    assert seen == list(range(len(events) - 1))


def shortened(value: Any) -> Iterator[Any]:
    """Yield copies of the value. In each, another string lacks its last character."""
    if isinstance(value, str) and value:
        yield value[:-1]
    elif isinstance(value, dict):
        for key, item in value.items():
            if key != "created_at":  # of this string the last one counts
                yield from ({**value, key: cut} for cut in shortened(item))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from ([*value[:at], cut, *value[at + 1 :]] for cut in shortened(item))


@pytest.mark.parametrize("sample", MERGED)
def test_a_lost_character_is_noticed(sample: Sample) -> None:
    """A lost character is noticed in any string of a delta: its text, an id, a token."""
    expected = final(sample.format, sample.stream())
    for at in (sample.first, sample.first + 1):
        name, mark, data = sample.events[at].rpartition(b"data: ")
        end = data[len(data.rstrip()) :]
        for cut in shortened(json.loads(data)):
            event = name + mark + line(cut).rstrip() + end
            events = [*sample.events[:at], event, *sample.events[at + 1 :]]
            assert final(sample.format, b"".join(events)) != expected, cut


def test_what_a_client_had_before_it_raised_counts() -> None:
    """If the stream has an error, the result has its message and the text before it."""
    events = next(chat()).events
    error = sse({"error": {"message": "overloaded", "code": 529}})
    result = final("openai-chat", b"".join([*events[:5], error]))
    assert "('raised', 'APIError', 'overloaded'" in repr(result["completion"])
    assert "Héllo" in repr(result["completion"])
    assert "Héllo" in repr(result["events"])
    assert result != final("openai-chat", b"".join([*events[:4], error]))
    assert result != final("openai-chat", b"".join(events[:5]))


def test_halves_of_a_surrogate_pair_are_the_character() -> None:
    """Two deltas that cut an emoji, as a server in JavaScript may do, give the emoji."""
    halves = [rb"\ud83d", rb"\ude00"]
    split = final("openai-chat", b"".join(CONTENT % half for half in halves))
    assert split == final("openai-chat", CONTENT % b"".join(halves))
    assert "😀" in repr(split)
