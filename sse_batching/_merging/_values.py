"""Values in JSON, by path: what they are, and where their bytes are."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any, Final

from .._sse import Span

Path = tuple[str | int, ...]

_DECODER: Final = json.JSONDecoder()
_SPACE: Final = re.compile(r"[ \t\n\r]*")


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""There is nothing at that path."""


def parse_path(text: str) -> Path:
    """`choices.0.delta.content`: names of members and numbers of elements. Empty: the whole."""
    return tuple(
        int(step) if step.isascii() and step.isdigit() else step for step in text.split(".") if step
    )


def find(value: Any, path: Path) -> Any:
    """What is at that path, or `MISSING`."""
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
    """Whether it is missing, null or empty. Numbers and `false` do say something."""
    return value is MISSING or value is None or (isinstance(value, str | list | dict) and not value)


def locate(text: str, value: Any, paths: Collection[Path], offset: int) -> dict[Path, Span]:
    """Where the values at these paths are in the JSON text that has this value; those that are
    there.

    A string is located without its quotes. `offset` is added to all.
    """
    there = [path for path in paths if find(value, path) is not MISSING]
    found: dict[Path, Span] = {}
    for path in there:
        begin = _begin_of_unique(text, path)
        if begin is None:
            _walk(text, _skip(text, 0), (), there, offset, found)
            return found
        found[path] = _span(text, begin, offset)
    return found


def _begin_of_unique(text: str, path: Path) -> int | None:
    """Where the value at this path begins, if that is seen at a glance: there is but one member of
    that name, anywhere. In a string its quotes would be escaped."""
    name = path[-1]
    quoted = f'"{name}"'
    # Nor may the name be written in another way.
    simple = isinstance(name, str) and name.isascii() and name.replace("-", "_").isidentifier()
    if not simple or "\\u" in text or text.count(quoted) != 1:
        return None
    at = _skip(text, text.index(quoted) + len(quoted))
    # What is no member but a value, of a member whose name is written with escapes, has no colon.
    return _skip(text, at + 1) if text[at] == ":" else None


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
    """Find all that is wanted in the object or array that begins at `start`, and is at `here`."""
    for step, begin in _children(text, start):
        at = (*here, step)
        if at in wanted:
            found[at] = _span(text, begin, offset)
        deeper = [path for path in wanted if len(path) > len(at) and path[: len(at)] == at]
        if deeper:
            _walk(text, begin, at, deeper, offset, found)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None  # it matches nothing, too
    return match.end()


def _children(text: str, start: int) -> Iterator[tuple[str | int, int]]:
    """The members or elements of the object or array, and where the value of each begins."""
    if text[start] not in "{[":
        return
    at, number, named = _skip(text, start + 1), 0, text[start] == "{"
    while text[at] not in "}]":
        step: str | int = number
        if named:
            _, end = _DECODER.raw_decode(text, at)
            step = json.loads(text[at:end].encode("latin-1").decode("utf-8", "surrogateescape"))
            at = end
            at = _skip(text, _skip(text, at) + 1)  # behind the colon
        yield step, at
        _, end = _DECODER.raw_decode(text, at)
        number += 1
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
