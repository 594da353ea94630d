"""Which responses are batched, which of them take comment lines, and where their bodies end."""

from __future__ import annotations

from typing import Any

import pytest

from sse_batching._policy import (
    ends_response,
    header,
    is_batched,
    takes_comments,
    with_header_list,
)

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
    """Only the media type counts, without regard to case, parameters and blanks."""
    message = start(of_type(content_type))

    assert is_batched({"method": "GET"}, message, frozenset({SSE, NDJSON})) is batched


@pytest.mark.parametrize(
    "headers", [[], [(b"x-content-type", SSE)], [(b"content-type-options", SSE)]]
)
def test_a_response_without_a_content_type_is_not_batched(headers: Headers) -> None:
    """A header with a similar name does not count."""
    assert not is_batched({"method": "GET"}, start(headers), frozenset({SSE}))


def test_a_start_without_headers_is_not_batched() -> None:
    """ASGI allows a start message without headers."""
    message = {"type": "http.response.start", "status": 200}

    assert not is_batched({"method": "GET"}, message, frozenset({SSE}))


@pytest.mark.parametrize("name", [b"content-type", b"Content-Type", b"CONTENT-TYPE"])
def test_the_name_of_the_header_may_be_in_any_case(name: bytes) -> None:
    """ASGI requires lower case, but servers accept any case, and so does the middleware."""
    assert is_batched({"method": "GET"}, start([(name, SSE)]), frozenset({SSE}))


def test_headers_may_be_any_iterable_of_pairs() -> None:
    """ASGI allows any iterable of two-item iterables, such as a tuple of lists."""
    message = {"type": "http.response.start", "status": 200, "headers": ([b"content-type", SSE],)}

    assert is_batched({"method": "GET"}, message, frozenset({SSE}))


def test_headers_that_can_be_read_once_become_a_list() -> None:
    """The middleware reads the headers before the server does. The app's message is not changed."""
    headers = iter(of_type(SSE))
    message = {**start([]), "headers": headers}

    assert with_header_list(message) == start(of_type(SSE))
    assert message["headers"] is headers


@pytest.mark.parametrize("headers", [of_type(SSE), tuple(of_type(SSE)), None])
def test_a_message_with_headers_that_can_be_read_again_is_not_copied(headers: Any) -> None:
    """Nearly every app sends a list, and a copy of the message would only cost time."""
    message = {"type": "http.response.start", "status": 200}
    if headers is not None:
        message["headers"] = headers

    assert with_header_list(message) is message


@pytest.mark.parametrize(
    ("method", "batched"),
    [("GET", True), ("POST", True), ("PUT", True), ("QUERY", True), ("HEAD", False)],
)
def test_a_response_to_head_is_not_batched(method: str, batched: bool) -> None:
    """A response to any method may be a stream, except for HEAD: that response has no body.
    Pitfall 54."""
    assert is_batched({"method": method}, start(of_type(SSE)), frozenset({SSE})) is batched


@pytest.mark.parametrize(
    ("status", "batched"),
    [(200, True), (201, True), (206, True), (404, True), (500, True), (204, False), (304, False)],
)
def test_a_response_that_can_have_no_body_is_not_batched(status: int, batched: bool) -> None:
    """A response of any status may be a stream, errors included, except for 204 and 304."""
    message = start(of_type(SSE), status)

    assert is_batched({"method": "GET"}, message, frozenset({SSE})) is batched


def test_without_media_types_nothing_is_batched() -> None:
    """An empty collection of media types turns batching off."""
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
        pytest.param([*of_type(SSE), (b"content-length", b"20")], False, id="declared-length"),
        pytest.param([*of_type(SSE), (b"Content-Length", b"20")], False, id="in-any-case"),
        pytest.param([*of_type(SSE), (b"content-encoding", b"gzip")], False, id="compressed"),
    ],
)
def test_only_a_plain_event_stream_takes_comments(headers: Headers, comments: bool) -> None:
    """A comment line would break other formats, compressed bodies and a declared length."""
    assert takes_comments(start(headers)) is comments


def test_a_start_without_headers_takes_no_comments() -> None:
    """A response without a known media type counts as no event stream."""
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
def test_the_last_message_of_a_body_is_recognized(message: dict[str, Any], last: bool) -> None:
    """A body ends if `more_body` is False or missing, or with the path of a file."""
    assert ends_response(message) is last


def test_the_first_header_of_a_name_counts() -> None:
    """The value of a repeated header is the first one. The case of its name does not matter."""
    assert header([(b"x", b"1"), (b"x", b"2")], b"x") == b"1"
    assert header([(b"X", b"1")], b"x") == b"1"
    assert header([(b"y", b"1")], b"x") is None
