"""Media types of JSON in lines: they are merged, or refused where merging is configured."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable
from typing import Any, Final

import pytest
from fastapi import FastAPI

from sse_batching import SSEBatchingMiddleware, formats
from tests.conftest import VIRTUAL_TIME, loops
from tests.merging.merged import line
from tests.support.apps import chunk, converse, last, sending, start
from tests.support.virtual_time import advance

on_every_loop = loops(VIRTUAL_TIME)

LINES: Final = (
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonl",
    "application/jsonlines",
    "application/x-jsonlines",
    "application/json-lines",
    "application/json-seq",
    "application/stream+json",
    "application/x-ldjson",
    "application/vnd.acme.v1+jsonl",
    "application/geo+json-seq",
    "text/x-ndjson",
    "Application/JSONL",
)
OTHER_JSON: Final = (
    "application/json",
    "application/problem+json",
    "application/x-json-stream",
    "application/json-patch+json",
    "application/vnd.acme+json",
)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """An app that is never called."""


@pytest.mark.anyio
@on_every_loop
@pytest.mark.parametrize("media_type", LINES)
@pytest.mark.parametrize("separator", [b"", b"\x1e"], ids=["lines", "sequence"])
async def test_lines_of_json_are_merged_under_each_of_their_names(
    media_type: str, separator: bytes
) -> None:
    """All names for the same framing are read alike, also with a record separator (RFC 7464).

    Pitfall 84.
    """
    opener, a, b, ab = (separator + line({"delta": text}) for text in ("x", "a", "b", "ab"))
    merging = SSEBatchingMiddleware(
        sending(
            start(media_type.encode() + b"; charset=utf-8"), *map(chunk, (opener, a, b)), last()
        ),
        media_types=[media_type],
        merge=formats.DeltaFormat(),
    )
    assert (await converse(merging)).body == opener + ab


@pytest.mark.anyio
@on_every_loop
async def test_a_line_with_a_separator_is_not_merged_with_one_without() -> None:
    """The separator has to be equal, as everything around a delta."""
    stream = [line({"delta": "x"}), b"\x1e" + line({"delta": "a"}), line({"delta": "b"}), b"\x1e\n"]
    merging = SSEBatchingMiddleware(
        sending(start(b"application/json-seq"), *map(chunk, stream), last()),
        media_types=["application/json-seq"],
        merge=formats.DeltaFormat(),
    )
    assert (await converse(merging)).body == b"".join(stream)


@pytest.mark.anyio
@on_every_loop
async def test_the_json_lines_of_fastapi_are_merged() -> None:
    """An endpoint of FastAPI that yields dictionaries is merged: it streams `application/jsonl`.

    Pitfall 84.
    """
    api = FastAPI()

    @api.get("/")
    async def stream() -> AsyncIterable[dict[str, Any]]:
        for number in range(9):
            yield {"delta": f"w{number} "}
            await advance(1 / 64)

    def wrapped(**options: Any) -> SSEBatchingMiddleware:
        return SSEBatchingMiddleware(api, media_types=["application/jsonl"], **options)

    plain = await converse(wrapped())
    talk = await converse(wrapped(merge=formats.DeltaFormat()))
    assert plain.body.count(b"\n") == 9
    assert talk.body.count(b"\n") < 9
    assert b"".join(re.findall(rb'"delta":\s*"(.*?)"', talk.body)) == (
        b"".join(b"w%d " % number for number in range(9))
    )


@pytest.mark.parametrize("media_type", OTHER_JSON)
@pytest.mark.parametrize(
    ("name", "value"), [("merge", "auto"), ("merge", formats.DeltaFormat()), ("flush_on", ["x"])]
)
def test_json_that_is_not_in_lines_is_refused(name: str, value: Any, media_type: str) -> None:
    """A JSON media type that merging cannot read raises, with and without a type beside it.

    Otherwise the option would be ignored silently.
    """
    for media_types in ([media_type], ["text/event-stream", media_type]):
        with pytest.raises(
            ValueError, match=f"media_types must .* {name} .*'{re.escape(media_type)}'"
        ):
            SSEBatchingMiddleware(app, media_types=media_types, **{name: value})
        SSEBatchingMiddleware(app, media_types=media_types)


@pytest.mark.parametrize("media_types", [["text/csv"], ["text/plain", "text/csv"]])
def test_merging_needs_a_media_type_that_it_can_read(media_types: list[str]) -> None:
    """Types without events raise if no other type is there. Beside another they are batched."""
    with pytest.raises(ValueError, match=r"media_types must .*'text/csv'"):
        SSEBatchingMiddleware(app, media_types=media_types, merge="auto")
    SSEBatchingMiddleware(app, media_types=["text/event-stream", *media_types], merge="auto")
    SSEBatchingMiddleware(app, media_types=[], merge="auto")
