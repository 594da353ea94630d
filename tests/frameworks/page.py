"""docs/frameworks.md, and its snippets."""

from __future__ import annotations

import re
from typing import Any, Final

from tests.support.servers import REPOSITORY

PAGE: Final = (REPOSITORY / "docs" / "frameworks.md").read_text()

SNIPPETS: Final[list[tuple[str, str]]] = re.findall(
    r"^```python (\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE
)
"""Each framework, and the code that shows how to add the middleware to it."""


def snippet_of(framework: str) -> str:
    """Return the one snippet of a framework."""
    (snippet,) = [code for name, code in SNIPPETS if name == framework]
    return snippet


def run(snippet: str, **names: Any) -> dict[str, Any]:
    """Run a snippet that may use these names. Return the names that there are after it."""
    exec(snippet, names)
    return names
