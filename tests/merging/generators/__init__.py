"""Hypothesis strategies for streams of every format: valid streams with awkward details.

For example:

    @given(streams("openai_chat"))
    def test_something(events: list[bytes]) -> None: ...

    body = data.draw(streams("gemini").map(b"".join))
    chunks = data.draw(cuts(body))  # as a network cuts it
    chunks = data.draw(uncut(events))  # as an app sends it
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from hypothesis import strategies as st

from tests.merging.generators import openai, providers, ui
from tests.merging.generators.cutting import cuts, uncut
from tests.merging.generators.writer import (
    BROWSERS,
    GOOGLE,
    LINE_FEEDS,
    LINES,
    STRICT,
    Habits,
    Writer,
)

__all__ = ["FORMATS", "cuts", "streams", "uncut"]

WRITERS: Final[Mapping[str, tuple[Callable[[Writer], None], Habits]]] = {
    "openai_chat": (openai.chat, STRICT),
    "openai_responses": (openai.responses, STRICT),
    "anthropic": (providers.anthropic, BROWSERS),
    "ag_ui": (ui.ag_ui, LINE_FEEDS),
    "vercel_ui": (ui.vercel_ui, BROWSERS),
    "gemini": (providers.gemini, GOOGLE),
    "cohere": (providers.cohere, BROWSERS),
    "ollama": (providers.ollama, LINES),
    "plain_text": (providers.plain_text, BROWSERS),
}
FORMATS: Final = tuple(WRITERS)


@st.composite
def _streams(draw: st.DrawFn, format: str) -> list[bytes]:
    write, habits = WRITERS[format]
    writer = Writer(draw, habits)
    write(writer)
    return writer.blocks


def streams(format: str) -> st.SearchStrategy[list[bytes]]:
    """Generate streams of a format. Each is a list of blocks: events and comments."""
    return _streams(format)
