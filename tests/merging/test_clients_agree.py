"""For the official clients a stream is the same, merged or not: whatever the cuts and the flushes.

The project's own streams, and the recorded ones where they are at hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from sse_batching import formats
from tests.merging import clients, javascript
from tests.merging.flushing import (
    FIXTURES,
    REPEATED_ROLE,
    client_of,
    fixtures,
    merged_each_way,
    recorded,
)

PYTHON: Final = (
    "anthropic-messages",
    "cohere",
    "gemini",
    "mistral",
    "ollama",
    "openai-chat",
    "openai-responses",
)
JAVASCRIPT: Final = (
    "ag-ui",
    "anthropic-messages",
    "openai-chat",
    "openai-responses",
    "vercel-ui",
)


@pytest.mark.parametrize(("client", "path"), [*fixtures(*PYTHON), *recorded(*PYTHON)])
def test_python_clients_end_up_with_the_same(client: str, path: Path) -> None:
    """What the SDK hands out and adds up, is equal."""
    body = path.read_bytes()
    expected = clients.final(client, body)
    for merged in merged_each_way(body, lines=client == "ollama", seed=path.name):
        assert clients.final(client, merged) == expected


@pytest.mark.parametrize(("client", "path"), [*fixtures(*JAVASCRIPT), *recorded(*JAVASCRIPT)])
def test_javascript_clients_end_up_with_the_same(client: str, path: Path) -> None:
    """So is what the SDKs do under Node; AG-UI's verifier, too, is content as it was before."""
    body = path.read_bytes()
    expected, *found = javascript.final(
        client, [body, *merged_each_way(body, lines=False, seed=path.name)]
    )
    for result in found:
        assert result == expected


@pytest.mark.parametrize("fixture", sorted(REPEATED_ROLE))
def test_python_clients_know_no_difference_but_repeated_roles(fixture: str) -> None:
    """Which they make one long word of, merged or not: so that format has to be asked for."""
    body = (FIXTURES / f"{fixture}.sse").read_bytes()
    expected = clients.final("openai-chat", body)
    known = [formats.openai_chat_repeated_role]
    for merged in merged_each_way(body, lines=False, seed=fixture, known=known):
        assert len(merged) < len(body)
        assert clients.final("openai-chat", merged) == expected


def test_something_is_merged() -> None:
    """Or all of this would say nothing: each fixture gets shorter, if it has what may be merged."""
    shorter = {
        path.stem
        for path in FIXTURES.iterdir()
        if (client := client_of(path)) is not None
        and all(
            len(merged) < len(path.read_bytes())
            for merged in merged_each_way(
                path.read_bytes(), lines=client == "ollama", seed=path.name
            )
        )
    }
    every = {path.stem for path in FIXTURES.iterdir() if client_of(path) is not None}
    assert shorter == every - REPEATED_ROLE
