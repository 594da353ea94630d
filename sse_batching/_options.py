"""The options of the middleware, checked when the middleware is made, or a stream configured."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

from . import formats
from ._merging import Format
from ._sse import EVENT_STREAM, is_json_lines
from ._types import Predicate
from .report import StreamReport

LONGEST: Final = 1_000_000_000
"""The longest duration, in seconds (31 years). Event loops cannot set timers much later."""

MEDIA_TYPE: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+/[\w!#$%&'*+.^`|~-]+", re.ASCII)
"""RFC 9110, 8.3.1: two tokens."""

Merge: TypeAlias = Literal["auto"] | Format | Collection[Literal["auto"] | Format] | None
OnClose: TypeAlias = Callable[[StreamReport], Awaitable[None] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The checked options. `SSEBatchingMiddleware` explains each of them.

    A wrong value raises `TypeError` or `ValueError`, which name the option and the value.
    """

    max_delay: float
    max_batch_bytes: int
    media_types: frozenset[bytes]
    keepalive_interval: float | None
    send_timeout: float | None
    grace_period: float
    record_bytes: int
    merge: tuple[Format, ...]
    flush_on: frozenset[str]
    max_merged_bytes: int
    enabled: Predicate | None
    on_close: OnClose | None
    batching: bool = True
    """False: each chunk is delivered before `send` returns (`Stream.configure`)."""

    def __post_init__(self) -> None:
        check_seconds("max_delay", self.max_delay)
        check_seconds("grace_period", self.grace_period)
        for name in ("keepalive_interval", "send_timeout"):
            value = getattr(self, name)
            if value is not None:
                check_seconds(name, value)
                if value == 0:
                    raise ValueError(f"{name} must be more than 0 seconds, or None; got {value!r}")
        _check_size("max_batch_bytes", self.max_batch_bytes, least=1)
        _check_size("record_bytes", self.record_bytes, least=0)
        _check_size("max_merged_bytes", self.max_merged_bytes, least=1)
        for name in ("merge", "flush_on"):
            if getattr(self, name):
                _check_readable(name, self.media_types)
        for name in ("enabled", "on_close"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise TypeError(f"{name} must be callable, or None; got {value!r}")
        if inspect.iscoroutinefunction(self.enabled):
            raise TypeError(f"enabled must be a plain function, not a coroutine: {self.enabled!r}")


def check_seconds(name: str, value: float) -> None:
    """Raise `TypeError` or `ValueError` unless the value is a duration in seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds; got {value!r}")
    if not 0 <= value <= LONGEST:
        raise ValueError(f"{name} must be from 0 to {LONGEST:,} seconds; got {value!r}")


def _check_size(name: str, value: int, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number of bytes; got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least} bytes; got {value!r}")


def _check_readable(name: str, media_types: frozenset[bytes]) -> None:
    """Raise `ValueError` if an option that reads events would be ignored: none of the media types
    can be read, or one is of JSON that is not in lines.

    Other types, such as `text/csv`, may stand beside: nobody looks for events in them.
    """
    unread = sorted(t for t in media_types if t != EVENT_STREAM and not is_json_lines(t))
    wrong = [t for t in unread if len(unread) == len(media_types) or b"json" in t]
    if wrong:
        raise ValueError(
            f"media_types must be text/event-stream or lines of JSON (application/x-ndjson, "
            f"application/jsonl, application/json-seq) for {name} to read them; got "
            f"{wrong[0].decode()!r}"
        )


def merged_formats(value: Merge) -> tuple[Format, ...]:
    """Return the formats to merge. A wrong value raises as in `Options`."""
    if value is None:
        return ()
    one = isinstance(value, Format) or not isinstance(value, Collection) or isinstance(value, str)
    found: list[object] = []
    for item in [value] if one else cast("Collection[object]", value):
        if item == "auto":
            found += formats.auto
            continue
        if isinstance(item, type) or not isinstance(item, Format):
            raise TypeError(
                "merge must be None, 'auto', a format of sse_batching.formats, or a collection of "
                f"them; got {item!r}"
            )
        found.append(item)
    return cast("tuple[Format, ...]", tuple(found))


def event_names(value: Collection[str]) -> frozenset[str]:
    """Return the names of events that must not wait. A wrong value raises as in `Options`."""
    if isinstance(value, str | bytes) or not isinstance(value, Collection):
        raise TypeError(f"flush_on must be a collection of strings; got {value!r}")
    for item in value:
        if not isinstance(item, str):
            raise TypeError(f"flush_on must be a collection of strings; got {item!r} in it")
        if not item:
            raise ValueError(f"flush_on must name events; got {item!r} in it")
    return frozenset(value)


def media_types(value: Collection[str]) -> frozenset[bytes]:
    """Return the media types in lower case, as bytes. A wrong value raises as in `Options`."""
    # A single string would be taken as a collection of letters, and match nothing.
    if isinstance(value, str | bytes) or not isinstance(value, Collection):
        raise TypeError(f"media_types must be a collection of strings; got {value!r}")
    for item in value:
        if not isinstance(item, str):
            raise TypeError(f"media_types must be a collection of strings; got {item!r} in it")
        if not MEDIA_TYPE.fullmatch(item):
            raise ValueError(
                f"media_types must be of the form 'type/subtype', without parameters; got {item!r}"
            )
    return frozenset(item.lower().encode() for item in value)
