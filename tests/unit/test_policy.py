"""Which responses are batched, which of them may be given comment lines, and where they end."""

from __future__ import annotations

from typing import Any

import pytest

from sse_batching._policy import ends_response, header, is_batched, takes_comments

SSE = b"text/event-stream"
NDJSON = b"application/x-ndjson"

Headers = list[tuple[bytes, bytes]]


def start(headers: Headers, status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def of_type(content_type: bytes) -> Headers:
    return [(b"content-type", content_type)]


@pytest.mark.parametrize(
    ("content_type", "batched"),
    [
        (b"text/event-stream", True),
        (b"text/event-stream; charset=utf-8", True),
        (b"text/event-stream;charset=utf-8", True),
        (b"text/event-stream ;charset=utf-8; x=y", True),
        (b" text/event-stream ", True),
        (b"Text/Event-Stream", True),
        (b"application/x-ndjson", True),
        (b"text/event-stream-2", False),
        (b"text/html", False),
        (b"text/html; text/event-stream", False),
        (b"text/html, text/event-stream", False),
        (b"text", False),
        (b"", False),
        (b"\xff\xfe", False),
    ],
)
def test_the_media_type_decides(content_type: bytes, batched: bool) -> None:
    """A response is batched by its media type, whatever its case, its parameters and blanks."""
    message = start(of_type(content_type))

    assert is_batched({"method": "GET"}, message, frozenset({SSE, NDJSON})) is batched


@pytest.mark.parametrize(
    "headers", [[], [(b"x-content-type", SSE)], [(b"content-type-options", SSE)]]
)
def test_a_response_without_a_content_type_is_left_alone(headers: Headers) -> None:
    """No header of that name, no batching."""
    assert not is_batched({"method": "GET"}, start(headers), frozenset({SSE}))


def test_a_start_without_headers_is_left_alone() -> None:
    """ASGI lets an app leave the headers out."""
    message = {"type": "http.response.start", "status": 200}

    assert not is_batched({"method": "GET"}, message, frozenset({SSE}))


@pytest.mark.parametrize("name", [b"content-type", b"Content-Type", b"CONTENT-TYPE"])
def test_the_name_of_the_header_may_be_in_any_case(name: bytes) -> None:
    """ASGI wants lower case, servers accept any, and so do we."""
    assert is_batched({"method": "GET"}, start([(name, SSE)]), frozenset({SSE}))


def test_headers_may_be_any_iterable_of_pairs() -> None:
    """ASGI speaks of an iterable of two-item iterables: lists in a tuple do."""
    message = {"type": "http.response.start", "status": 200, "headers": ([b"content-type", SSE],)}

    assert is_batched({"method": "GET"}, message, frozenset({SSE}))


@pytest.mark.parametrize(
    ("method", "batched"),
    [("GET", True), ("POST", True), ("PUT", True), ("QUERY", True), ("HEAD", False)],
)
def test_an_answer_to_head_is_left_alone(method: str, batched: bool) -> None:
    """Any method may be answered with a stream, but for HEAD: that answer has no body.
    Pitfall 54."""
    assert is_batched({"method": method}, start(of_type(SSE)), frozenset({SSE})) is batched


@pytest.mark.parametrize(
    ("status", "batched"),
    [(200, True), (201, True), (206, True), (404, True), (500, True), (204, False), (304, False)],
)
def test_a_response_that_can_have_no_body_is_left_alone(status: int, batched: bool) -> None:
    """Any status may come with a stream, errors included, but for those that have no body."""
    message = start(of_type(SSE), status)

    assert is_batched({"method": "GET"}, message, frozenset({SSE})) is batched


def test_without_media_types_nothing_is_batched() -> None:
    """An empty list of media types turns the batching off."""
    assert not is_batched({"method": "GET"}, start(of_type(SSE)), frozenset())


@pytest.mark.parametrize(
    ("headers", "comments"),
    [
        pytest.param(of_type(SSE), True, id="event-stream"),
        pytest.param(of_type(b"Text/Event-Stream; charset=utf-8"), True, id="parameters-and-case"),
        pytest.param([*of_type(SSE), (b"cache-control", b"no-store")], True, id="other-headers"),
        pytest.param(of_type(NDJSON), False, id="no-comments-in-ndjson"),
        pytest.param(of_type(b"text/plain"), False, id="no-comments-in-text"),
        pytest.param([], False, id="no-media-type"),
        pytest.param([*of_type(SSE), (b"content-length", b"20")], False, id="promised-length"),
        pytest.param([*of_type(SSE), (b"Content-Length", b"20")], False, id="in-any-case"),
        pytest.param([*of_type(SSE), (b"content-encoding", b"gzip")], False, id="compressed"),
    ],
)
def test_only_a_plain_event_stream_takes_comments(headers: Headers, comments: bool) -> None:
    """A comment line would break other formats, compressed bodies and a promised length."""
    assert takes_comments(start(headers)) is comments


def test_a_start_without_headers_takes_no_comments() -> None:
    """What is not known to be an event stream is none."""
    assert takes_comments({"type": "http.response.start", "status": 200}) is False


@pytest.mark.parametrize(
    ("message", "last"),
    [
        ({"type": "http.response.body", "body": b"x"}, True),
        ({"type": "http.response.body", "more_body": False}, True),
        ({"type": "http.response.body", "more_body": True}, False),
        ({"type": "http.response.zerocopysend", "file": 3}, True),
        ({"type": "http.response.zerocopysend", "file": 3, "more_body": True}, False),
        ({"type": "http.response.pathsend", "path": "/x"}, True),
        ({"type": "http.response.start", "status": 200}, False),
        ({"type": "http.response.trailers", "headers": []}, False),
        ({"type": "http.response.push"}, False),
        ({"type": "http.response.nobody-heard-of", "more_body": False}, False),
        ({}, False),
    ],
    ids=str,
)
def test_the_last_message_of_a_body_is_known(message: dict[str, Any], last: bool) -> None:
    """A body ends with `more_body` false or missing, or with the path of a file."""
    assert ends_response(message) is last


def test_the_first_header_of_a_name_counts() -> None:
    """A header that is given twice has the value that was given first."""
    assert header([(b"x", b"1"), (b"x", b"2")], b"x") == b"1"
    assert header([(b"X", b"1")], b"x") == b"1"
    assert header([(b"y", b"1")], b"x") is None
