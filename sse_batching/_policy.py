"""Which responses are batched, may get keep-alive comments, and are merged.

The request and the start message of the response decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ._merging import Merger
from ._options import Options
from ._sse import EVENT_STREAM, is_json_lines
from ._types import BODY, Message, Scope

BODILESS_STATUS: Final = frozenset({204, 304})

# Parsing the whole query took 20 ms for 60 KB, which a client may send. So this finds the name,
# written with or without escapes, in a query with an `&` before it.
STARTING_AFTER: Final = re.compile(
    b"&%b(?![^&=])" % b"".join(b"(?:%c|%%(?i:%02x))" % (byte, byte) for byte in b"starting_after")
)


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Return the value of the first header with this lower-case name."""
    length = len(name)
    for key, value in headers:
        if len(key) == length and key.lower() == name:
            return value
    return None


class MediaTypes(dict[bytes, bytes]):
    """The media type of each `Content-Type` value: in lower case, without parameters.

    A cache, because every request looks one up: computing it took a twentieth of what a request
    costs. `functools.lru_cache` is no faster than computing.
    """

    def __missing__(self, content_type: bytes) -> bytes:
        if len(self) >= 256:  # values with a random boundary are all different
            self.clear()
        found = self[content_type] = content_type.partition(b";")[0].strip().lower()
        return found


MEDIA_TYPES: Final = MediaTypes()


def is_batched(scope: Scope, start: Message, media_types: frozenset[bytes]) -> bool:
    """Return True if the response has one of the media types, and may have a body."""
    for name, value in start.get("headers", ()):
        # `header` is inlined: this runs for every request.
        if len(name) == 12 and name.lower() == b"content-type":
            if type(value) is not bytes:
                value = bytes(value)
            return (
                MEDIA_TYPES[value] in media_types
                and scope.get("method") != "HEAD"
                and start.get("status") not in BODILESS_STATUS
            )
    return False


def expects_continue(scope: Scope) -> bool:
    """Return True if the client sends the body only when the server has said "100 Continue"."""
    value = header(scope.get("headers", ()), b"expect")
    return value is not None and value.lower() == b"100-continue"


def with_header_list(start: Message) -> Message:
    """Return the message with headers that can be read more than once. An app may send an
    iterator."""
    headers = start.get("headers", ())
    if type(headers) is list or type(headers) is tuple:
        return start
    return {**start, "headers": list(headers)}


def ends_response(message: Message) -> bool:
    """Return True if this message ends the body of a response."""
    kind = message.get("type")
    if kind == BODY or kind == "http.response.zerocopysend":
        return not message.get("more_body", False)
    return kind == "http.response.pathsend"


def takes_comments(start: Message) -> bool:
    """Return True if comment lines may be added: the response is an unencoded event stream without
    a Content-Length."""
    headers = start.get("headers", ())
    return (
        MEDIA_TYPES[bytes(header(headers, b"content-type") or b"")] == EVENT_STREAM
        and header(headers, b"content-encoding") is None
        and header(headers, b"content-length") is None
    )


def merger_for(scope: Scope, start: Message, options: Options) -> Merger | None:
    """Return a merger for the events of this response. None if no event has to be looked at.

    Encoded events cannot be read. A response with a Content-Length or a status other than 200 is no
    live stream. A client that names its last event gets a replay, and may skip events by their
    number, so the merger of a replay has no formats: it only looks for the events of `flush_on`.
    """
    if not options.merge and not options.flush_on:
        return None
    headers = start.get("headers", ())
    kind = MEDIA_TYPES[bytes(header(headers, b"content-type") or b"")]
    lines = is_json_lines(kind)
    if (
        not (lines or kind == EVENT_STREAM)
        or start.get("status") != 200
        or header(headers, b"content-encoding") is not None
        or header(headers, b"content-length") is not None
    ):
        return None
    replay = (
        header(scope.get("headers", ()), b"last-event-id") is not None
        or STARTING_AFTER.search(b"&" + scope.get("query_string", b"")) is not None
    )
    formats = (
        format
        for format in options.merge
        if not (format.get_is_replay and scope.get("method") == "GET")
        and (format.header is None or header(headers, format.header) is not None)
    )
    chosen = () if replay else tuple(formats)
    if not chosen and not options.flush_on:
        return None
    return Merger(
        chosen,
        flush_on=options.flush_on,
        max_merged_bytes=options.max_merged_bytes,
        max_batch_bytes=options.max_batch_bytes,
        lines=lines,
    )
