"""Which responses are merged, and errors about wrong options for merging."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sse_batching import SSEBatchingMiddleware, formats
from tests.conftest import VIRTUAL_TIME, loops
from tests.merging.merged import OPENERS, line, sse, typed
from tests.support.apps import EVENT_STREAM, chunk, converse, last, sending, start

on_every_loop = loops(VIRTUAL_TIME)

TEXTS = ("a", "b", "ab")
CHAT = [
    OPENERS["openai_chat"],
    *(
        sse({"object": "chat.completion.chunk", "choices": [{"delta": {"content": text}}]})
        for text in TEXTS
    ),
]
RESPONSES = [
    OPENERS["openai_responses"],
    *(typed({"type": "response.output_text.delta", "delta": text}) for text in TEXTS),
]
VERCEL = [
    OPENERS["vercel_ui"],
    *(sse({"type": "text-delta", "id": "1", "delta": text}) for text in TEXTS),
]
OLLAMA = [
    OPENERS["ollama"],
    *(line({"model": "m", "created_at": "t", "done": False, "response": text}) for text in TEXTS),
]
OWN = [sse("opener"), *(sse({"delta": text}) for text in TEXTS)]

STREAM_TYPES = ("text/event-stream", "application/x-ndjson", "text/plain")


async def merges(
    stream: list[bytes] = CHAT,
    *headers: tuple[bytes, bytes],
    kind: bytes = EVENT_STREAM,
    status: int = 200,
    merge: Any = "auto",
    **request: Any,
) -> bool:
    """Return True if the second and the third event of such a response are merged.

    Otherwise they have to pass through unchanged.
    """
    opener, first, second, both = stream
    messages = [start(kind, *headers, status=status), *map(chunk, (opener, first, second)), last()]
    app = SSEBatchingMiddleware(sending(*messages), merge=merge, media_types=STREAM_TYPES)
    talk = await converse(app, **request)
    assert talk.body in {opener + both, opener + first + second}
    return talk.body == opener + both


@pytest.mark.anyio
@on_every_loop
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "kind", [b"text/event-stream", b"Text/Event-Stream; charset=utf-8", b"text/event-stream;x=y"]
)
async def test_an_event_stream_is_merged(method: str, kind: bytes) -> None:
    """An event stream is merged, with any method and any spelling of its media type."""
    assert await merges(kind=kind, method=method)


@pytest.mark.anyio
@on_every_loop
@pytest.mark.parametrize("status", [201, 206, 400, 404, 500])
async def test_another_status_than_200_is_not_merged(status: int) -> None:
    """A response with another status than 200 is not the answer of a model, and is not merged."""
    assert not await merges(status=status)


@pytest.mark.anyio
@on_every_loop
@pytest.mark.parametrize(
    "header",
    [(b"content-encoding", b"gzip"), (b"Content-Encoding", b"br"), (b"Content-Length", b"999")],
)
async def test_what_is_encoded_or_of_a_promised_length_is_not_merged(
    header: tuple[bytes, bytes],
) -> None:
    """Merging cannot read encoded bytes, and would not keep a promised length."""
    assert not await merges(CHAT, header)


@pytest.mark.anyio
@on_every_loop
async def test_other_headers_do_not_hinder() -> None:
    """Usual headers of event streams do not prevent merging."""
    assert await merges(CHAT, (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


@pytest.mark.anyio
@on_every_loop
@pytest.mark.parametrize(
    "request_",
    [
        {"headers": [(b"last-event-id", b"7")]},
        {"headers": [(b"Last-Event-ID", b"")]},
        {"scope": {"query_string": b"starting_after=7"}},
        {"scope": {"query_string": b"stream=true&starting_after="}},
        {"scope": {"query_string": b"starting_after"}},
        {"scope": {"query_string": b"&&starting_after&x"}},
        {"scope": {"query_string": b"%73tarting_after=7"}},
        {"scope": {"query_string": b"x=%zz&starting%5fafte%72=7"}},
        {"scope": {"query_string": b"starting%5Fafter=7"}},
    ],
    ids=str,
)
async def test_a_replay_is_not_merged(request_: dict[str, Any]) -> None:
    """A replay is not merged: its client names the last event it has, and may skip a part."""
    assert not await merges(**request_)


@pytest.mark.anyio
@on_every_loop
@pytest.mark.parametrize(
    "query",
    [
        b"",
        b"after=starting_after",
        b"x=%zz&&=",
        b"q=\xc3\xa9",
        b"\xff",
        b"starting_afte=1",
        b"starting_after_=1",
        b"not_starting_after=1",
        b"x=1;starting_after=1",
        b"x=1%26starting_after=1",
        b"Starting_After=1",
        b"a&" * 30_000,
        b"&starting_afte" * 4_000,
    ],
    ids=lambda query: query[:24].decode("latin-1"),
)
async def test_any_other_query_does_not_hinder(query: bytes) -> None:
    """Any other query string does not prevent merging, not even an invalid one."""
    assert await merges(scope={"query_string": query})


@pytest.mark.anyio
@on_every_loop
async def test_an_answer_to_head_is_none_to_merge() -> None:
    """A response to HEAD has no events. If an app sends a body, it is not merged."""
    assert not await merges(method="HEAD")


@pytest.mark.anyio
@on_every_loop
async def test_responses_are_merged_unless_they_answer_get() -> None:
    """A response to GET is a replay: clients skip a part of it by the sequence numbers."""
    assert await merges(RESPONSES, method="POST")
    assert not await merges(RESPONSES, method="GET")
    assert not await merges(RESPONSES, method="GET", merge=[formats.openai_responses])


@pytest.mark.anyio
@on_every_loop
async def test_vercel_is_known_by_its_header() -> None:
    """Vercel's UI messages are merged only with their header: the events alone are ambiguous."""
    assert await merges(VERCEL, (b"X-Vercel-AI-UI-Message-Stream", b"v1"))
    assert not await merges(VERCEL)
    assert not await merges(VERCEL, (b"x-vercel-ai-data-stream", b"v1"))
    assert await merges(CHAT, (b"x-vercel-ai-ui-message-stream", b"v1"))


@pytest.mark.anyio
@on_every_loop
async def test_lines_of_json_are_merged_as_such() -> None:
    """The media type decides if a body is read as lines of JSON or as events."""
    assert await merges(OLLAMA, kind=b"application/x-ndjson")
    assert not await merges(OLLAMA)
    assert not await merges(CHAT, kind=b"application/x-ndjson")
    assert not await merges(CHAT, kind=b"text/plain")
    assert not await merges(OLLAMA, kind=b"text/plain")


@pytest.mark.anyio
@on_every_loop
async def test_only_the_formats_that_were_asked_for_are_merged() -> None:
    """Only events in the formats of the option `merge` are merged."""
    own = formats.DeltaFormat()
    assert await merges(merge=formats.openai_chat)
    assert await merges(merge=[formats.ag_ui, formats.openai_chat])
    assert await merges(OWN, merge=own)
    assert await merges(OWN, merge=(*formats.auto, own))
    assert await merges(OWN, merge=("auto", own))
    for none in (None, (), [], formats.ag_ui, [formats.ag_ui, own]):
        assert not await merges(merge=none)
    assert not await merges(OWN)


# Wrong options.


async def app(scope: Any, receive: Any, send: Any) -> None:
    """An app that is never called."""


WRONG_TYPE: list[tuple[str, object]] = [
    *[("merge", value) for value in ("all", "AUTO", "", True, 5, {"openai_chat"})],
    *[("merge", [value]) for value in (None, "openai_chat")],
    ("merge", [formats.ag_ui, formats.auto]),
    *[("merge", value) for value in (formats.PlainText, formats.DeltaFormat)],
    ("merge", [formats.PlainText]),
    *[("flush_on", value) for value in ("x", b"x", None, 5, iter(["x"]))],
    *[("flush_on", [value]) for value in (b"x", None, 5)],
    *[("max_merged_bytes", value) for value in ("64", True, None, 64.0, [1])],
]
WRONG_VALUE: list[tuple[str, object]] = [
    ("flush_on", [""]),
    ("flush_on", ["x", ""]),
    *[("max_merged_bytes", value) for value in (0, -1)],
]


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        *((name, value, TypeError) for name, value in WRONG_TYPE),
        *((name, value, ValueError) for name, value in WRONG_VALUE),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_wrong_option_raises(name: str, value: Any, error: type[Exception]) -> None:
    """The error names the option and the value; of a collection, the wrong element."""
    shown = (
        list(value)[-1] if isinstance(value, list | set) and name != "max_merged_bytes" else value
    )
    options: dict[str, Any] = {name: value}
    with pytest.raises(error, match=f"(?s){name} must .*{re.escape(repr(shown))}"):
        SSEBatchingMiddleware(app, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"merge": None},
        {"merge": ()},
        {"merge": "auto", "flush_on": [], "max_merged_bytes": 1},
        {"merge": ["auto", formats.DeltaFormat(event="x")]},
        {"merge": formats.PlainText()},
        {"merge": {formats.PlainText(), formats.DeltaFormat(event="x")}},
        {"merge": {"mine": formats.ag_ui}.values()},
        {"merge": [formats.openai_chat_repeated_role, *formats.auto]},
        {"flush_on": {"größe"}, "max_merged_bytes": 10**20},
    ],
    ids=lambda options: "-".join(options),
)
def test_what_makes_sense_is_accepted(options: dict[str, Any]) -> None:
    """Any collection of formats is accepted, and so are the limits themselves."""
    SSEBatchingMiddleware(app, **options)


def test_formats_can_be_in_a_set() -> None:
    """Formats are hashable, so `merge` may be a set of them."""
    SSEBatchingMiddleware(app, merge={formats.PlainText(), formats.DeltaFormat(), *formats.auto})
