"""The work of merging grows as its input does: twice the bytes take twice the work, not four times.

An app's `send` reads events, and a client may make a model send what it likes. A step that goes
through the whole run for each delta would stop the event loop for seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

import pytest

from sse_batching import _sse, formats
from sse_batching._merging import Merger, _pattern, _template, _values
from sse_batching.formats import plain_text
from tests.merging.kinds import KINDS, Kind
from tests.support.work import Work

GROWTH: Final = 2.2
SIZE: Final = 40
MANY: Final = 160
LARGE: Final = 1_000_000

TEXTS: Final[Mapping[str, bytes]] = {
    "plain": b"ab" * 20,
    "closing-angle": b">" * 40,
    "one-angle": b">",
    "tag-like": b"<a>" * 10,
    "escaped": b"\\u4f60" * 8,
    "escaped-angle": b"\\u003e" * 8,
    "utf-8": "é".encode() * 20,
    "line-feed": b"\\n" * 20,
    "blank": b" " * 40,
    "empty": b"",
    "tag": b"</think>",
    "low-surrogate": b"\\ude00",
    "continuation-byte": b"\xa0",
    "backslashes": b"\\\\" * 20,
    "invalid": b"\\x",
}


pytestmark = pytest.mark.slow


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    counted = Work()
    counted.watch_patterns(monkeypatch, _sse, _pattern, _template, _values, plain_text)
    return counted


def feed(merger: Merger, chunks: Iterable[bytes], *, take_every: int = 0) -> None:
    for number, chunk in enumerate(chunks, 1):
        merger.add(chunk)
        if take_every and number % take_every == 0:
            merger.release()
            merger.take()
    merger.release()
    merger.take()


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


WAYS: Final[Mapping[str, Callable[[Merger, list[bytes]], None]]] = {
    "event-by-event": feed,
    "in-one-chunk": lambda merger, events: feed(merger, [b"".join(events)]),
    "cut-anywhere": lambda merger, events: feed(merger, cut(b"".join(events), 13)),
    "in-batches": lambda merger, events: feed(merger, events, take_every=5),
}


def growth(
    work: Work, kind: Kind, way: str, make: Callable[[int], list[bytes]], size: int = SIZE
) -> float:
    """Return by what the work grows if the stream is twice as long."""

    def run(size: int) -> int:
        merger = kind.merger(max_merged_bytes=LARGE, max_batch_bytes=LARGE)
        feed(merger, [kind.opener])
        events = make(size)
        return work.of(lambda: WAYS[way](merger, events))

    return run(2 * size) / run(size)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_work_is_linear_in_the_number_of_events(work: Work, kind: Kind) -> None:
    """Twice as many deltas take about twice the work, in every format."""
    event = kind.delta(TEXTS["closing-angle"])
    assert growth(work, kind, "event-by-event", lambda size: [event] * size, MANY) <= GROWTH


OWN: Final = next(kind for kind in KINDS if isinstance(kind.format, formats.DeltaFormat))
PLAIN: Final = next(kind for kind in KINDS if isinstance(kind.format, formats.PlainText))


LINES: Final = next(kind for kind in KINDS if kind.lines)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [OWN, PLAIN, LINES], ids=["json", "text", "lines"])
def test_work_is_linear_however_the_stream_is_cut(work: Work, kind: Kind, way: str) -> None:
    """Chunks may be whole events, several events or parts of an event."""
    events = [*(kind.delta(TEXTS[name]) for name in ("plain", "one-angle", "tag")), kind.other]
    assert growth(work, kind, way, lambda size: events * (size // 4)) <= GROWTH


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", [OWN, PLAIN], ids=["json", "text"])
def test_work_is_linear_whatever_the_text(work: Work, kind: Kind, text: str) -> None:
    """Texts that have to be looked at more closely are looked at once."""
    event = kind.delta(TEXTS[text])
    assert growth(work, kind, "event-by-event", lambda size: [event] * size, MANY) <= GROWTH


def own(more: bytes, text: bytes = b"a") -> bytes:
    """Return a delta event of `OWN` with more members."""
    return b'data: {"delta":"%b","n":1,"list":[]%b}\n\n' % (text, more)


SHAPES: Final[Mapping[str, Callable[[int], list[bytes]]]] = {
    "keys-that-are-ever-new": lambda size: [own(b',"k%d":1' % n) for n in range(size)],
    "five-keys-in-turn": lambda size: [own(b',"k":%d' % (n % 5)) for n in range(size)],
    "a-longer-text": lambda size: [own(b"", b"a" * 100 * size)] * 2,
    "a-longer-text-of-angles": lambda size: [own(b"", b">" * 100 * size)] * 2,
    "a-longer-text-of-escapes": lambda size: [own(b"", b"\\u003e" * 20 * size)] * 2,
    "a-longer-text-of-blanks": lambda size: [own(b"", b" " * 100 * size)] * 2,
    "a-longer-key": lambda size: [own(b',"%b":1' % (b"k" * 100 * size))] * 2,
    "a-longer-key-of-escapes": lambda size: [own(b',"%b":1' % (b"\\u00e9" * 20 * size))] * 2,
    "more-members": lambda size: [own(b',"k":1' * size)] * 4,
    "more-members-of-the-same-name": lambda size: [own(b',"delta":"a"' * size)] * 4,
    "deeper": lambda size: [own(b',"k":%b%b' % (b"[" * size, b"]" * size))] * 4,
    "more-elements": lambda size: [own(b',"list":[%b1]' % (b"1," * size))] * 4,
    "more-spaces": lambda size: [own(b" " * 100 * size)] * 4,
    "a-longer-value-that-may-differ": lambda size: [own(b',"n":"%b"' % (b"x" * 100 * size))] * 4,
    "more-lines-of-data": lambda size: [b"data: x\n" * size + b"\n"] * 4,
    "more-ids": lambda size: [b"id: x\n" * size + own(b"")] * 4,
    "an-event-without-an-end": lambda size: [b"x" * 10] * size,
    "line-ends-without-a-blank-line": lambda size: [b":\n"] * size,
    "carriage-returns": lambda size: [b"\r"] * size,
    "blank-lines": lambda size: [b"\n"] * size,
    "comments": lambda size: [b": ping\n\n"] * size,
    "arrays-that-add-up": lambda size: [own(b',"list":[%d]' % n) for n in range(size)],
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [OWN, PLAIN], ids=["json", "text"])
def test_work_is_linear_in_every_length(work: Work, kind: Kind, shape: str) -> None:
    """No part of an event makes the work grow faster than the part itself."""
    assert growth(work, kind, "event-by-event", SHAPES[shape]) <= GROWTH


def test_quadratic_work_is_seen(work: Work) -> None:
    """The count sees bytes that are joined or searched again and again."""

    def joins(size: int) -> None:
        parts: list[bytes] = []
        for _ in range(size):
            parts.append(b"x" * 10)
            b"".join(parts)

    def searches(size: int) -> None:
        held = bytearray()
        for _ in range(size):
            held += b"x" * 10
            any(_sse.EventSplitter._end.finditer(held, 0))

    for function in (joins, searches):
        small, large = (work.of(partial(function, size)) for size in (MANY, 2 * MANY))
        assert large / small > GROWTH
