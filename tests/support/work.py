"""Count the work of a function, to see how it grows with its input. Counts are no times: they are
(nearly) the same in each run, and on a busy machine.
"""

from __future__ import annotations

import gc
import re
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Any, Final

import pytest

CALL: Final = 16
"""What a call counts, in bytes."""


class CountedPattern:
    """A compiled regular expression that counts the bytes it may have looked at."""

    def __init__(self, pattern: re.Pattern[bytes], count: Callable[[int], None]) -> None:
        self._pattern = pattern
        self._count = count
        self.pattern = pattern.pattern

    def match(self, text: bytes, start: int = 0, end: int = sys.maxsize) -> Any:
        found = self._pattern.match(text, start, end)
        self._count(self._seen(found, text, start, end))
        return found

    def fullmatch(self, text: bytes, start: int = 0, end: int = sys.maxsize) -> Any:
        self._count(min(end, len(text)) - start)
        return self._pattern.fullmatch(text, start, end)

    def search(self, text: bytes, start: int = 0, end: int = sys.maxsize) -> Any:
        found = self._pattern.search(text, start, end)
        self._count(self._seen(found, text, start, end))
        return found

    def finditer(self, text: bytes, start: int = 0, end: int = sys.maxsize) -> Iterator[Any]:
        self._count(min(end, len(text)) - start)
        return self._pattern.finditer(text, start, end)

    @staticmethod
    def _seen(found: Any, text: bytes, start: int, end: int) -> int:
        """Return the bytes up to the end of the match, or all bytes if there is no match."""
        return (min(end, len(text)) if found is None else int(found.end())) - start


class Work:
    """Counts bytes that are allocated, bytes that are searched, and calls."""

    def __init__(self) -> None:
        self.done = 0

    def count(self, size: int) -> None:
        self.done += size

    def watch_patterns(self, monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
        """Let the patterns that these modules, their classes and dictionaries hold be counted."""
        for module in modules:
            for name, value in [*vars(module).items()]:
                if isinstance(value, re.Pattern):
                    monkeypatch.setattr(module, name, CountedPattern(value, self.count))
                elif isinstance(value, dict) and not name.startswith("__"):
                    for key, item in [*value.items()]:
                        if isinstance(item, re.Pattern):
                            monkeypatch.setitem(value, key, CountedPattern(item, self.count))
                elif isinstance(value, type) and value.__module__ == module.__name__:
                    for key, item in [*vars(value).items()]:
                        if isinstance(item, re.Pattern):
                            monkeypatch.setattr(value, key, CountedPattern(item, self.count))

    def of(self, function: Callable[[], object]) -> int:
        """Call the function, and return the work that it has done."""
        self.done = 0
        with self._watching():
            function()
        return self.done

    @contextmanager
    def _watching(self) -> Iterator[None]:
        current = 0

        def each(frame: FrameType, event: str, argument: Any) -> None:
            nonlocal current
            now, peak = tracemalloc.get_traced_memory()
            self.done += max(0, peak - current) + CALL
            if event == "c_call":
                # `find`, `count`, `startswith` and the like allocate nothing.
                owner = getattr(argument, "__self__", None)
                if isinstance(owner, bytes | str):
                    self.done += len(owner)
            tracemalloc.reset_peak()
            current = now

        gc.collect()
        gc.disable()
        tracemalloc.start()
        current, _ = tracemalloc.get_traced_memory()
        sys.setprofile(each)
        try:
            yield
        finally:
            sys.setprofile(None)
            tracemalloc.stop()
            gc.enable()
