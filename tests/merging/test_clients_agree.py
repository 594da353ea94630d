"""The official clients end up with the same result, merged or not, for any chunks and flushes.

The streams are the fixtures, and recorded streams if there are any.
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

pytestmark = pytest.mark.slow

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
    """The events and the accumulated result of each Python SDK are equal."""
    body = path.read_bytes()
    expected = clients.final(client, body)
    for merged in merged_each_way(body, lines=client == "ollama", seed=path.name):
        assert clients.final(client, merged) == expected


@pytest.mark.parametrize(("client", "path"), [*fixtures(*JAVASCRIPT), *recorded(*JAVASCRIPT)])
def test_javascript_clients_end_up_with_the_same(client: str, path: Path) -> None:
    """The results of the SDKs under Node are equal, also those of AG-UI's verifier."""
    body = path.read_bytes()
    expected, *found = javascript.final(
        client, [body, *merged_each_way(body, lines=False, seed=path.name)]
    )
    for result in found:
        assert result == expected


@pytest.mark.parametrize("fixture", sorted(REPEATED_ROLE))
def test_python_clients_know_no_difference_but_repeated_roles(fixture: str) -> None:
    """Repeated roles become one long word, merged or not, so this format has to be asked for."""
    body = (FIXTURES / f"{fixture}.sse").read_bytes()
    expected = clients.final("openai-chat", body)
    known = [formats.openai_chat_repeated_role]
    for merged in merged_each_way(body, lines=False, seed=fixture, known=known):
        assert len(merged) < len(body)
        assert clients.final("openai-chat", merged) == expected


def test_something_is_merged() -> None:
    """Merging makes each fixture shorter. Otherwise the other tests here would prove nothing."""
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
