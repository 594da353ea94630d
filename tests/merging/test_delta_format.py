"""`DeltaFormat`: JSON events of one's own, and wrong arguments."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from sse_batching import formats
from sse_batching._merging import Merger
from tests.merging.merged import compact, feed, is_unchanged, merged, sse

DeltaFormat = formats.DeltaFormat


@pytest.mark.parametrize(
    ("arguments", "events"),
    [
        ({}, [{"delta": "a"}, {"delta": "b"}, {"delta": "ab"}]),
        ({"delta": "text"}, [{"text": "a"}, {"text": "b"}, {"text": "ab"}]),
        ({"delta": "a.1.b"}, [{"a": [0, {"b": text}]} for text in ("a", "b", "ab")]),
    ],
    ids=str,
)
def test_the_delta_is_a_path(arguments: Any, events: list[Any]) -> None:
    """`delta` is the name of a member, or a path with names and numbers of elements."""
    first, last, joined = map(sse, events)
    assert merged(DeltaFormat(**arguments), first, last) == joined


@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        ({"delta": "größe"}, {"größe": "a"}),
        ({"delta": "d.²"}, {"d": {"²": "a"}}),
        ({"type": "größer"}, {"type": "größer", "delta": "a"}),
    ],
    ids=str,
)
def test_names_may_be_of_any_language(arguments: Any, fields: Any, escaped: bool) -> None:
    """Names outside ASCII are found, escaped in the JSON (the default of `json.dumps`) or not."""
    once = json.dumps(fields, ensure_ascii=escaped)
    twice = once.replace('"a"', '"aa"')
    assert merged(DeltaFormat(**arguments), sse(once), sse(once)) == sse(twice)


@pytest.mark.parametrize(
    "value",
    [{"a": "x"}, {"a": []}, {"a": [0]}, {"a": [0, 1]}, {"a": [0, {"b": 1}]}, [], "x", None, 5],
    ids=str,
)
def test_what_has_no_string_there_is_left(value: Any) -> None:
    """An event without a string at the path of `delta` is not merged."""
    event = sse(compact(value))
    assert is_unchanged(DeltaFormat(delta="a.1.b"), event, event)


def test_the_name_of_the_event_has_to_be_that() -> None:
    """Only events with the name `event` are merged. Without `event`, only events without a name."""
    for name, before in (("token", ["event: token"]), (None, [])):
        events = [sse({"delta": text}, *before) for text in ("a", "b", "ab")]
        assert merged(DeltaFormat(event=name), *events[:2]) == events[2]
        assert is_unchanged(DeltaFormat(event="other"), *events[:2])
    assert is_unchanged(DeltaFormat(), *[sse({"delta": "a"}, "event: message")] * 2)


def test_the_type_has_to_be_that() -> None:
    """Only events whose member `type` has the value `type` are merged."""
    format = DeltaFormat(type="token")
    assert merged(format, *[sse({"type": "token", "delta": "a"})] * 2) == (
        sse({"type": "token", "delta": "aa"})
    )
    for value in ("other", 1, None, ["token"]):
        assert is_unchanged(format, *[sse({"type": value, "delta": "a"})] * 2)
    assert is_unchanged(format, *[sse({"delta": "a"})] * 2)


def test_same_has_to_be_there() -> None:
    """The members in `same` have to exist and to be equal. Null counts as existing."""
    format = DeltaFormat(same=("run", "of.part"))
    a, b, ab = (sse({"run": None, "of": {"part": 1}, "delta": text}) for text in ("a", "b", "ab"))
    assert merged(format, a, b) == ab
    assert is_unchanged(format, *[sse({"run": 1, "of": {}, "delta": "a"})] * 2)
    assert is_unchanged(format, *[sse({"of": {"part": 1}, "delta": "a"})] * 2)
    assert is_unchanged(format, a, sse({"run": None, "of": {"part": 2}, "delta": "b"}))


@pytest.mark.parametrize(
    "values",
    [(1, 23), (1.5, -2e10), ("x", "yz"), ("", '"\\'), ({"a": 1}, {"b": [2]}), ([], [1])],
    ids=str,
)
def test_last_may_differ(values: tuple[Any, Any]) -> None:
    """Values in `last` may be any JSON values of the same kind. The last one counts."""
    format = DeltaFormat(last=("n", "deep.0.n"))
    first, last = ({"n": value, "deep": [{"n": value}]} for value in values)
    assert merged(format, sse({**first, "delta": "a"}), sse({**last, "delta": "b"})) == (
        sse({**last, "delta": "ab"})
    )
    assert is_unchanged(DeltaFormat(), sse({**first, "delta": "a"}), sse({**last, "delta": "b"}))


def test_join_makes_one_array_of_several() -> None:
    """Arrays in `join` are joined. Other arrays have to be equal."""
    events = [sse({"x": [n], "delta": "a", "y": {"z": [-n, n] if n else []}}) for n in range(3)]
    joined = sse({"x": [0, 1, 2], "delta": "aaa", "y": {"z": [-1, 1, -2, 2]}})
    assert merged(DeltaFormat(join=("x", "y.z")), *events) == joined
    assert is_unchanged(DeltaFormat(join=("x",)), *events)


@pytest.mark.parametrize("value", [1, "x", {"a": 1}, None, True], ids=str)
def test_what_is_no_array_is_not_joined(value: Any) -> None:
    """A value in `join` that is no array has to be equal."""
    format = DeltaFormat(join=("x",))
    a, b, ab = (sse({"delta": text, "x": value}) for text in ("a", "b", "ab"))
    assert merged(format, a, b) == ab
    assert is_unchanged(format, a, sse({"delta": "b", "x": [1]}))


def test_several_formats_may_be_in_one_stream() -> None:
    """Each `DeltaFormat` merges its own events."""
    both = [DeltaFormat(event="a"), DeltaFormat(event="b", delta="text")]
    a, b = sse({"delta": "a"}, "event: a"), sse({"text": "b"}, "event: b")
    merger = Merger(both)
    feed(merger, [a])
    assert feed(merger, [a, a, b, b, b, a]) == (
        sse({"delta": "aa"}, "event: a") + sse({"text": "bbb"}, "event: b") + a
    )


def test_a_format_of_ones_own_goes_with_a_built_in_one() -> None:
    """A stream of a built-in format may have events of a `DeltaFormat`: both are merged."""
    own = sse({"text": "x"}, "event: note")
    typed = '{"type":"TEXT_MESSAGE_CONTENT","messageId":"1","delta":"%s"}'
    merger = Merger([*formats.auto, DeltaFormat(event="note", delta="text")])
    feed(merger, [sse({"type": "RUN_STARTED"})])
    assert feed(merger, [own, own, sse(typed % "a"), sse(typed % "b")]) == (
        sse({"text": "xx"}, "event: note") + sse(typed % "ab")
    )


WRONG_TYPE: list[tuple[str, object]] = [
    *[(name, value) for name in ("event", "type") for value in (1, b"x", ["x"], True)],
    *[("delta", value) for value in (None, 1, b"x", ["x"])],
    *[(name, value) for name in ("same", "last", "join") for value in ("x", b"x", None, 5)],
    *[(name, [value]) for name in ("same", "last", "join") for value in (None, 5, b"x")],
]
WRONG_VALUE: list[tuple[str, object]] = [
    *[("delta", value) for value in ("", ".", "a.", ".a", "a..b")],
    *[(name, [value]) for name in ("same", "last", "join") for value in ("", "a.", "a..b")],
]


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        *((name, value, TypeError) for name, value in WRONG_TYPE),
        *((name, value, ValueError) for name, value in WRONG_VALUE),
    ],
)
def test_a_wrong_argument_raises(name: str, value: Any, error: type[Exception]) -> None:
    """The error names the argument and the value; of a collection, the wrong element."""
    shown = value[-1] if isinstance(value, list) and name in {"same", "last", "join"} else value
    with pytest.raises(error, match=f"{name} must .*{re.escape(repr(shown))}"):
        DeltaFormat(**{name: value})


@pytest.mark.parametrize(
    "arguments",
    [
        {"delta": "a", "last": ("a",)},
        {"delta": "a.b", "join": ("a",)},
        {"delta": "a", "last": ("a.b",)},
        {"last": ("x",), "join": ("x.0",)},
        {"last": ("x", "x")},
    ],
    ids=str,
)
def test_one_value_has_one_part(arguments: Any) -> None:
    """A value may not be in two of `delta`, `last` and `join`, nor inside another one."""
    with pytest.raises(ValueError, match="must not overlap"):
        DeltaFormat(**arguments)


def test_names_that_begin_alike_do_not_overlap() -> None:
    """Names such as `text` and `texts` do not overlap."""
    DeltaFormat(delta="text", last=("texts",), join=("text_list",))


def test_a_format_has_a_name_to_be_known_by() -> None:
    """The name of a `DeltaFormat` shows its event, type or delta."""
    names = [DeltaFormat(event="e", type="t"), DeltaFormat(type="t"), DeltaFormat(delta="d")]
    assert [format.name for format in names] == [
        "DeltaFormat(e)",
        "DeltaFormat(t)",
        "DeltaFormat(d)",
    ]


def test_it_does_not_change_with_what_it_was_made_of() -> None:
    """A list that was passed as an argument may be changed later."""
    last = ["n"]
    format = DeltaFormat(last=last)
    last.clear()
    events = [sse({"delta": "a", "n": n}) for n in (1, 2)]
    assert merged(format, *events) == sse({"delta": "aa", "n": 2})
