"""Strategies for chunks: a body as the network cuts it, and as an app sends it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st


def _cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(body), *places})
    return [body[start:end] for start, end in pairwise(edges)]


def _fragile_places(body: bytes) -> list[int]:
    """Return the places inside a character, and before and inside a line end."""
    inside = (index for index in range(1, len(body)) if body[index] & 0xC0 == 0x80)
    ends = (index for index in range(1, len(body)) if body[index] in b"\r\n")
    return [*inside, *ends]


def cuts(body: bytes) -> st.SearchStrategy[list[bytes]]:
    """Generate the body in chunks that are cut anywhere. No chunk is empty."""
    if len(body) < 2:
        return st.just([body] if body else [])
    anywhere = st.integers(1, len(body) - 1)
    fragile = _fragile_places(body)
    place = st.one_of(anywhere, st.sampled_from(fragile)) if fragile else anywhere
    return st.lists(place, max_size=40).map(lambda places: _cut(body, places))


def uncut(events: list[bytes]) -> st.SearchStrategy[list[bytes]]:
    """Generate the events in chunks of one or more events. No event is cut."""
    sizes = st.lists(st.integers(1, 8), min_size=len(events), max_size=len(events))

    def grouped(sizes: list[int]) -> list[bytes]:
        chunks, rest = [], list(events)
        for size in sizes:
            if rest:
                chunks.append(b"".join(rest[:size]))
                del rest[:size]
        return chunks

    return sizes.map(grouped)
