"""Values in JSON text: find a value by its path, and locate the value in the text."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any, Final

from .._sse import Span

Path = tuple[str | int, ...]

_DECODER: Final = json.JSONDecoder()
_SPACES: Final = re.compile(r"[ \t\n\r]*")


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""The value at a path that does not exist."""


def parse_path(text: str) -> Path:
    """Parse a path such as `choices.0.delta.content`: names of members and numbers of elements.

    The empty path stands for the whole value.
    """
    return tuple(
        int(step) if step.isascii() and step.isdigit() else step for step in text.split(".") if step
    )


def find(value: Any, path: Path) -> Any:
    """Return the value at the path, or `MISSING`."""
    for step in path:
        if isinstance(step, int):
            if not isinstance(value, list) or step >= len(value):
                return MISSING
            value = value[step]
        else:
            if not isinstance(value, dict):
                return MISSING
            value = value.get(step, MISSING)
            if value is MISSING:
                return MISSING
    return value


def is_empty(value: Any) -> bool:
    """Return True if a value is missing, null, or an empty string, array or object.

    Zero and `false` are not empty.
    """
    return value is MISSING or value is None or (isinstance(value, str | list | dict) and not value)


def locate(text: str, value: Any, paths: Collection[Path], offset: int) -> dict[Path, Span]:
    """Return where the values at these paths are in a JSON text. Omit paths that do not exist.

    `text` has one character for each byte, `value` is its JSON value. The span of a string excludes
    the quotes. `offset` is added to all spans.
    """
    existing = [path for path in paths if find(value, path) is not MISSING]
    found: dict[Path, Span] = {}
    for path in existing:
        begin = _begin_of_unique(text, path)
        if begin is None:
            _walk(text, _skip_spaces(text, 0), (), existing, offset, found)
            return found
        found[path] = _span(text, begin, offset)
    return found


def _begin_of_unique(text: str, path: Path) -> int | None:
    """Return where the value at this path begins, if its name occurs only once in the text.

    Return None if the name may occur several times: then the text has to be walked through. A name
    with its quotes never occurs inside a string, because a string has to escape the quotes.
    """
    name = path[-1]
    quoted = f'"{name}"'
    # A name that needs escapes, or may be written with escapes, cannot be counted.
    simple = isinstance(name, str) and name.isascii() and name.replace("-", "_").isidentifier()
    if not simple or "\\u" in text or text.count(quoted) != 1:
        return None
    at = _skip_spaces(text, text.index(quoted) + len(quoted))
    # Without a colon behind it, the string is not a name but the value of some member. The name is
    # written with escapes then.
    return _skip_spaces(text, at + 1) if text[at] == ":" else None


def _span(text: str, begin: int, offset: int) -> Span:
    _, end = _DECODER.raw_decode(text, begin)
    inner = 1 if text[begin] == '"' else 0
    return Span(offset + begin + inner, offset + end - inner)


def _walk(
    text: str,
    start: int,
    here: Path,
    wanted: Collection[Path],
    offset: int,
    found: dict[Path, Span],
) -> None:
    """Add the spans of the wanted paths that are in one object or array to `found`.

    The object or array begins at `start`. Its path is `here`.
    """
    for step, begin in _children(text, start):
        at = (*here, step)
        if at in wanted:
            found[at] = _span(text, begin, offset)
        deeper = [path for path in wanted if len(path) > len(at) and path[: len(at)] == at]
        if deeper:
            _walk(text, begin, at, deeper, offset, found)


def _skip_spaces(text: str, at: int) -> int:
    match = _SPACES.match(text, at)
    assert match is not None, "no space matches as well"
    return match.end()


def _children(text: str, start: int) -> Iterator[tuple[str | int, int]]:
    """Yield the name or number of each member or element, and where its value begins."""
    if text[start] not in "{[":
        return
    at, number, named = _skip_spaces(text, start + 1), 0, text[start] == "{"
    while text[at] not in "}]":
        step: str | int = number
        if named:
            _, end = _DECODER.raw_decode(text, at)
            step = json.loads(text[at:end].encode("latin-1").decode("utf-8", "surrogateescape"))
            at = end
            at = _skip_spaces(text, _skip_spaces(text, at) + 1)  # behind the colon
        yield step, at
        _, end = _DECODER.raw_decode(text, at)
        number += 1
        at = _skip_spaces(text, end)
        if text[at] == ",":
            at = _skip_spaces(text, at + 1)
