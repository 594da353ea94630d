"""Texts of deltas, as bodies of JSON strings, escaped in all the ways that JSON allows."""

from __future__ import annotations

import json
from typing import Final

from hypothesis import strategies as st

AWKWARD: Final = [
    "",
    " ",
    "\\n\\n",
    "\\t \\r\\n",
    "<think>",
    "</think>",
    "\\u003cthink\\u003e",
    "<think>\\n",
    '\\"',
    "\\\\",
    '\\\\\\"',
    "\\/",
    "\\b\\f",
    "\\u00e9",
    "\\u0000",
    "\\ud83d",  # half a surrogate pair
    "\\ude00",  # the other half
    "\\uD83D\\uDE00",
    "\U0001f600",
    "\u2028",
    "\\u2029",
    "\x85",
    "e\u0301",
    "日本語",
    "[DONE]",
    "data: x",
    '{\\"a\\": [',
    '\\",\\"delta\\":\\"',  # looks like the end of the string to a careless parser
    ' \\"}}]}',
    "long " * 300,
]
"""Awkward texts. Each is the body of a JSON string."""


def _escape(text: str, ascii_only: bool) -> str:
    return json.dumps(text, ensure_ascii=ascii_only)[1:-1]


def pieces() -> st.SearchStrategy[str]:
    """Generate the text of one delta."""
    ordinary = st.sampled_from(["The", " word", " über", ",", " 42", "\\n- ", " tea."])
    letters = st.characters(exclude_categories=["Cs"])
    unicode = st.builds(_escape, st.text(letters, max_size=6), st.booleans())
    return st.one_of(ordinary, ordinary, st.sampled_from(AWKWARD), unicode)


def runs() -> st.SearchStrategy[list[str]]:
    """Generate the texts of a run of deltas, sometimes with a character split over two deltas."""
    split = st.sampled_from([["\\ud83d", "\\ude00"], ["tea \\uD83C", "\\uDF75 hot"]])
    several = st.lists(pieces(), min_size=1, max_size=6)
    cut = st.builds(lambda before, pair, after: before + pair + after, several, split, several)
    return st.one_of(several, several, several, cut)


def inner_runs() -> st.SearchStrategy[list[str]]:
    """Generate the arguments of a tool call: pieces of a JSON string inside a JSON string."""
    pieces = [
        "tea",
        " über",
        " 日本",
        "\\\\n",
        '\\\\\\"',
        "\\\\u00e9",
        "\\u00e9",
        " ",
        "",
        "<think>",
    ]
    return st.lists(st.sampled_from(pieces), min_size=1, max_size=6)
