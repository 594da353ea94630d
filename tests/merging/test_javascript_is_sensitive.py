"""`javascript.final` shows every change of a stream except for the number of deltas."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.merging import javascript

pytestmark = pytest.mark.slow

Events = list[bytes]

THOUGHT: Final = ("Let me", " think")
TEXT: Final = ("Wörds ", "and \ud83d", "\ude00\n")  # servers in JavaScript may cut a surrogate pair
ARGUMENTS: Final = ('{"city": "Ber', 'lin"}')


class Texts(NamedTuple):
    """Three texts, cut into deltas."""

    thought: tuple[str, ...] = THOUGHT
    text: tuple[str, ...] = TEXT
    arguments: tuple[str, ...] = ARGUMENTS

    def merged(self) -> Texts:
        return Texts(*(("".join(pieces),) for pieces in self))


def unnamed(data: Any) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


def named(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def ag_ui(texts: Texts) -> Iterator[bytes]:
    def event(kind: str, **fields: Any) -> bytes:
        return unnamed({"type": kind, **fields})

    run = {"threadId": "t", "runId": "r"}
    yield event("RUN_STARTED", **run)
    yield event("REASONING_START", messageId="m1")
    yield event("REASONING_MESSAGE_START", messageId="m1", role="reasoning")
    for piece in texts.thought:
        yield event("REASONING_MESSAGE_CONTENT", messageId="m1", delta=piece)
    yield event("REASONING_MESSAGE_END", messageId="m1")
    yield event("REASONING_END", messageId="m1")
    yield event("TEXT_MESSAGE_START", messageId="m2", role="assistant")
    for time, piece in zip(accumulate(map(len, texts.text)), texts.text, strict=True):
        yield event("TEXT_MESSAGE_CONTENT", timestamp=time, messageId="m2", delta=piece)
    yield event("TEXT_MESSAGE_END", messageId="m2")
    yield event("TOOL_CALL_START", toolCallId="c", toolCallName="weather", parentMessageId="m2")
    for piece in texts.arguments:
        yield event("TOOL_CALL_ARGS", toolCallId="c", delta=piece)
    yield event("TOOL_CALL_END", toolCallId="c")
    yield event("STATE_SNAPSHOT", snapshot={"step": 1})
    yield event("STATE_DELTA", delta=[{"op": "add", "path": "/done", "value": True}])
    yield event("RUN_FINISHED", **run)


def vercel_ui(texts: Texts) -> Iterator[bytes]:
    def chunk(kind: str, **fields: Any) -> bytes:
        return unnamed({"type": kind, **fields})

    tool = {"toolCallId": "c", "toolName": "weather"}
    yield chunk("start", messageId="m")
    yield chunk("start-step")
    yield chunk("reasoning-start", id="r")
    for piece in texts.thought:
        yield chunk("reasoning-delta", id="r", delta=piece)
    yield chunk("reasoning-end", id="r")
    yield chunk("text-start", id="t")
    for piece in texts.text:
        yield chunk("text-delta", id="t", delta=piece)
    yield chunk("text-end", id="t")
    yield chunk("tool-input-start", **tool)
    for piece in texts.arguments:
        yield chunk("tool-input-delta", toolCallId="c", inputTextDelta=piece)
    yield chunk("tool-input-available", **tool, input=json.loads("".join(texts.arguments)))
    yield chunk("data-weather", data={"degrees": 3}, transient=True)
    yield chunk("finish-step")
    yield chunk("finish", finishReason="stop")


def openai_chat(texts: Texts) -> Iterator[bytes]:
    def chunk(choices: list[Any], **more: Any) -> bytes:
        fixed = {"id": "i", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return unnamed({**fixed, "choices": choices, **more})

    def delta(finish_reason: str | None = None, **fields: Any) -> bytes:
        return chunk([{"index": 0, "delta": fields, "finish_reason": finish_reason}])

    def call(**fields: Any) -> bytes:
        return delta(tool_calls=[{"index": 0, **fields}])

    yield delta(role="assistant", content="")
    for piece in texts.thought:
        yield delta(reasoning_content=piece)
    for piece in texts.text:
        yield delta(content=piece)
    yield call(id="c", type="function", function={"name": "weather", "arguments": ""})
    for piece in texts.arguments:
        yield call(function={"arguments": piece})
    yield delta("tool_calls")
    yield chunk([], usage={"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10})


def openai_responses(texts: Texts) -> Iterator[bytes]:
    part = {"type": "output_text", "text": "", "annotations": []}
    message = {"id": "m", "type": "message", "role": "assistant", "status": "in_progress"}
    call = {"id": "f", "type": "function_call", "call_id": "c", "name": "weather", "arguments": ""}
    of_text = {"item_id": "m", "output_index": 0, "content_index": 0}
    of_call = {"item_id": "f", "output_index": 1}
    response = {"id": "r", "object": "response", "model": "m", "output": [], "tools": []}
    yield named("response.created", response=response)
    yield named("response.output_item.added", output_index=0, item={**message, "content": []})
    yield named("response.content_part.added", **of_text, part=part)
    for piece in texts.text:
        logprobs = [{"token": unit, "logprob": -0.1} for unit in piece]
        yield named("response.output_text.delta", **of_text, delta=piece, logprobs=logprobs)
    yield named("response.output_item.added", output_index=1, item=call)
    for piece in texts.arguments:
        yield named("response.function_call_arguments.delta", **of_call, delta=piece)
    done = {**response, "status": "completed", "output": [{**message, "content": [part]}, call]}
    yield named("response.completed", response=done)


def anthropic_messages(texts: Texts) -> Iterator[bytes]:
    def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> Iterator[bytes]:
        yield named("content_block_start", index=index, content_block=content)
        for delta in deltas:
            yield named("content_block_delta", index=index, delta=delta)
        yield named("content_block_stop", index=index)

    message = {"id": "i", "type": "message", "role": "assistant", "model": "m", "content": []}
    usage = {"input_tokens": 3, "output_tokens": 1}
    yield named("message_start", message={**message, "stop_reason": None, "usage": usage})
    thoughts = [{"type": "thinking_delta", "thinking": piece} for piece in texts.thought]
    signature = {"type": "signature_delta", "signature": "signed"}
    yield from block(0, {"type": "thinking", "thinking": "", "signature": ""}, *thoughts, signature)
    words = [{"type": "text_delta", "text": piece} for piece in texts.text]
    yield from block(1, {"type": "text", "text": ""}, *words)
    arguments = [{"type": "input_json_delta", "partial_json": piece} for piece in texts.arguments]
    tool = {"type": "tool_use", "id": "c", "name": "weather", "input": {}}
    yield from block(2, tool, *arguments)
    end = {"stop_reason": "tool_use", "stop_sequence": None}
    yield named("message_delta", delta=end, usage={"output_tokens": 7})
    yield named("message_stop")


STREAMS: Final[dict[str, Callable[[Texts], Iterator[bytes]]]] = {
    "ag-ui": ag_ui,
    "anthropic-messages": anthropic_messages,
    "openai-chat": openai_chat,
    "openai-responses": openai_responses,
    "vercel-ui": vercel_ui,
}


def final_of(format: str, *streams: Events) -> list[object]:
    return javascript.final(format, [b"".join(events) for events in streams])


def undetected(format: str, mutants: list[Events]) -> list[Events]:
    """Return the changed streams whose result is that of the original stream."""
    original, *finals = final_of(format, list(STREAMS[format](Texts())), *mutants)
    return [events for events, seen in zip(mutants, finals, strict=True) if seen == original]


@pytest.fixture(params=javascript.FORMATS)
def format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_client_reads_its_stream_without_an_error(format: str) -> None:
    """The clients read the stream that the other tests change without an error."""
    (seen,) = final_of(format, list(STREAMS[format](Texts())))
    assert isinstance(seen, dict)
    assert "error" not in seen


def test_merged_deltas_mean_the_same(format: str) -> None:
    """Merged deltas give the same result in fewer updates."""
    stream = STREAMS[format]
    bodies = [b"".join(stream(texts)) for texts in (Texts(), Texts().merged())]
    plain, merged = javascript.accumulate(format, bodies)
    assert merged.final == plain.final
    assert merged.updates < plain.updates


def test_lost_event_is_seen(format: str) -> None:
    """A lost event changes the result, whichever it is."""
    events = list(STREAMS[format](Texts()))
    assert undetected(format, [events[:at] + events[at + 1 :] for at in range(len(events))]) == []


def test_doubled_event_is_seen(format: str) -> None:
    """A doubled event changes the result, whichever it is."""
    events = list(STREAMS[format](Texts()))
    assert undetected(format, [events[: at + 1] + events[at:] for at in range(len(events))]) == []


def test_swapped_events_are_seen(format: str) -> None:
    """Two adjacent events that are swapped change the result."""
    events = list(STREAMS[format](Texts()))
    mutants = [
        [*events[:at], second, first, *events[at + 2 :]]
        for at, (first, second) in enumerate(pairwise(events))
    ]
    assert undetected(format, mutants) == []


@pytest.mark.parametrize("piece", [b"W\\u00f6rds", b'\\"city'], ids=["text", "arguments"])
def test_lost_character_is_seen(format: str, piece: bytes) -> None:
    """A lost character in a delta changes the result, although the whole text follows later."""
    events = list(STREAMS[format](Texts()))
    (at,) = (at for at, event in enumerate(events) if piece in event and b"delta" in event.lower())
    shorter = events[at].replace(piece, piece[:-1])
    assert shorter != events[at]
    assert undetected(format, [[*events[:at], shorter, *events[at + 1 :]]]) == []


def test_final_does_not_depend_on_what_was_read_before(format: str) -> None:
    """The result of a stream does not depend on the streams before it in the process."""
    plain = list(STREAMS[format](Texts()))
    first, other, second = final_of(format, plain, plain[:3], plain)
    assert first == second
    assert first != other


def test_ag_ui_ids_that_the_client_invents_are_comparable() -> None:
    """Random ids, which the client gives to events from before AG-UI 1.0, do not differ."""
    thoughts = [
        {"type": "RUN_STARTED", "threadId": "t", "runId": "r"},
        {"type": "THINKING_START"},
        {"type": "THINKING_TEXT_MESSAGE_START"},
        {"type": "THINKING_TEXT_MESSAGE_CONTENT", "delta": "Hm"},
        {"type": "THINKING_TEXT_MESSAGE_END"},
        {"type": "THINKING_END"},
        {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"},
    ]
    events = [unnamed(event) for event in thoughts]
    first, second, less = final_of("ag-ui", events, events, events[:2] + events[-2:])
    assert first == second
    assert first != less


def test_ag_ui_refuses_a_delta_after_the_end_of_its_message() -> None:
    """AG-UI's verifier runs: a delta after the end of its message ends the run with an error."""
    *events, end = (
        event for event in ag_ui(Texts()) if b"TEXT_MESSAGE" in event or b'"RUN_' in event
    )
    last_delta, end_of_message = events[-2:]
    (seen,) = final_of("ag-ui", [*events[:-2], end_of_message, last_delta, end])
    assert isinstance(seen, dict)
    assert "TEXT_MESSAGE_CONTENT" in seen["error"]
    assert seen["messages"][0]["content"] == "".join(TEXT[:-1])


def test_vercel_refuses_a_delta_of_a_part_that_is_not_open() -> None:
    """A delta after the end of its part is an error of Vercel's chat."""
    events = list(vercel_ui(Texts()))
    at = next(at for at, event in enumerate(events) if b"text-end" in event)
    (seen,) = final_of(
        "vercel-ui", [*events[: at - 1], events[at], events[at - 1], *events[at + 1 :]]
    )
    assert isinstance(seen, dict)
    assert "text-delta" in seen["error"]
    assert seen["status"] == "error"


def test_unknown_format_is_an_error() -> None:
    """An unknown format raises an error."""
    with pytest.raises(RuntimeError, match="no client for gopher"):
        javascript.final("gopher", [b""])


def test_without_node_the_tests_are_skipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without Node the tests are skipped, with a hint how to install it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SSE_BATCHING_REQUIRE_NODE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt install nodejs"):
        javascript.start_clients()


def test_without_node_the_tests_fail_where_it_is_required(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With SSE_BATCHING_REQUIRE_NODE=1 a missing Node is a failure, not a skip."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SSE_BATCHING_REQUIRE_NODE", "1")
    with pytest.raises(pytest.fail.Exception, match="SSE_BATCHING_REQUIRE_NODE"):
        javascript.start_clients()
