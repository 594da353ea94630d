"""Options are checked when the middleware is made. An error names the option and the value."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sse_batching import SSEBatchingMiddleware
from sse_batching._options import media_types


async def app(scope: Any, receive: Any, send: Any) -> None:
    """An app that is never called."""


class Unprintable:
    """A value whose repr is unlike any other."""

    def __repr__(self) -> str:
        return "<something odd>"


ODD = Unprintable()
DURATIONS = ("max_delay", "grace_period", "keepalive_interval", "send_timeout")
SIZES = ("max_batch_bytes", "record_bytes")

WRONG_TYPE: list[tuple[str, object]] = [
    *[(name, value) for name in DURATIONS for value in ("0.05", True, 1j, [1], ODD)],
    *[(name, None) for name in ("max_delay", "grace_period")],
    *[(name, value) for name in SIZES for value in ("64", True, None, 64.0, [1], ODD)],
    *[("media_types", value) for value in ("text/event-stream", b"text/event-stream", None, 5)],
    *[("media_types", value) for value in ([b"text/event-stream"], [None], iter(["a/b"]), ODD)],
    *[(name, value) for name in ("enabled", "on_close") for value in (True, "yes", ODD)],
]

WRONG_VALUE: list[tuple[str, object]] = [
    *[(name, value) for name in DURATIONS for value in (-1, -0.001)],
    *[(name, float(value)) for name in DURATIONS for value in ("nan", "inf", "-inf")],
    *[(name, value) for name in DURATIONS for value in (10**400, 1_000_000_001)],
    *[(name, value) for name in ("keepalive_interval", "send_timeout") for value in (0, 0.0)],
    *[("max_batch_bytes", value) for value in (0, -1)],
    ("record_bytes", -1),
    *[("media_types", [value]) for value in ("", "text", "a/b/c", "a/b; charset=utf-8", "ä/b")],
    *[("media_types", [value]) for value in ("text/", "/event-stream", "text/event stream")],
    *[("media_types", ["text/event-stream", value]) for value in (" a/b", "a/b\n", "*/*/*")],
]


def wrong(cases: list[tuple[str, object]]) -> pytest.MarkDecorator:
    ids = [f"{name}-{str(value)[:20]}" for name, value in cases]
    return pytest.mark.parametrize(("name", "value"), cases, ids=ids)


def naming(name: str, value: object) -> re.Pattern[str]:
    """Return a pattern that matches a message with the option and the value.

    For a collection, the message has to name the wrong item, which is the last one here.
    """
    shown = repr(value[-1] if isinstance(value, list) and name == "media_types" else value)
    return re.compile(f"{name}.*{re.escape(shown)}", re.DOTALL)


@wrong(WRONG_TYPE)
def test_a_value_of_the_wrong_type_is_rejected(name: str, value: object) -> None:
    """A value of the wrong type raises `TypeError`. The message has the option and the value."""
    options: dict[str, Any] = {name: value}

    with pytest.raises(TypeError, match=naming(name, value)):
        SSEBatchingMiddleware(app, **options)


@wrong(WRONG_VALUE)
def test_a_value_out_of_range_is_rejected(name: str, value: object) -> None:
    """A value out of range raises `ValueError`. The message has the option and the value.
    Pitfall 51."""
    options: dict[str, Any] = {name: value}

    with pytest.raises(ValueError, match=naming(name, value)):
        SSEBatchingMiddleware(app, **options)


@pytest.mark.parametrize("value", [None, "app", ODD])
def test_an_app_that_cannot_be_called_is_rejected(value: Any) -> None:
    """The app is checked as well, because a forgotten app is a common first mistake."""
    with pytest.raises(TypeError, match=f"app must be .*{re.escape(repr(value))}"):
        SSEBatchingMiddleware(value)


def test_a_coroutine_function_for_enabled_is_rejected() -> None:
    """The result of `enabled` would be a coroutine, which is true for every request."""

    async def enabled(scope: Any) -> bool:
        return False

    with pytest.raises(TypeError, match="enabled must be a plain function"):
        SSEBatchingMiddleware(app, enabled=enabled)  # type: ignore[arg-type]


def test_an_unknown_option_is_rejected() -> None:
    """A misspelt option raises an error that names the option."""
    with pytest.raises(TypeError, match="max_dely"):
        SSEBatchingMiddleware(app, max_dely=1)  # type: ignore[call-arg]


def test_options_are_given_by_name() -> None:
    """No option can be given by its position, because nobody could read such a call."""
    with pytest.raises(TypeError, match="positional"):
        SSEBatchingMiddleware(app, 0.05)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_delay": 0, "grace_period": 0, "record_bytes": 0, "max_batch_bytes": 1},
        {"max_delay": 1, "grace_period": 0.5, "send_timeout": 1, "keepalive_interval": 15},
        {"keepalive_interval": None, "send_timeout": None, "enabled": None, "on_close": None},
        {"max_delay": 1_000_000_000, "max_batch_bytes": 10**20},
        {"enabled": bool, "on_close": print},
        {"media_types": []},
        {"media_types": ["application/vnd.some-thing+json", "Text/X_y"]},
        {"media_types": {"application/x-ndjson"}},
        {"media_types": {"text/event-stream": "a dict is a collection of its keys"}},
    ],
    ids=str,
)
def test_a_valid_value_is_accepted(options: dict[str, Any]) -> None:
    """The limits of a range are valid, and so are None where it means "off", and any collection."""
    SSEBatchingMiddleware(app, **options)


def test_media_types_are_compared_in_lower_case() -> None:
    """A media type may be written in any case, as in a header."""
    assert media_types(["Text/Event-Stream"]) == {b"text/event-stream"}
