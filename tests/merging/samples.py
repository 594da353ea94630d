"""Small streams of each format. Each kind of text in them comes in two events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple


class Sample(NamedTuple):
    """A small stream with two deltas that may be merged."""

    format: str
    events: list[bytes]
    first: int
    """The position of the first of the two deltas."""
    merged: bytes
    """Both deltas as one event."""

    def stream(self) -> bytes:
        return b"".join(self.events)


def line(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def sse(fields: Mapping[str, Any]) -> bytes:
    return b"data: " + line(fields) + b"\n"


def named(fields: Mapping[str, Any]) -> bytes:
    return f"event: {fields['type']}\n".encode() + sse(fields)


def chat() -> Iterator[Sample]:
    def chunk(created: int, delta: Mapping[str, Any], **choice: Any) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": None, **choice}]
        fields = {"id": "c1", "object": "chat.completion.chunk", "created": created, "model": "m"}
        return sse({**fields, "choices": choices})

    def arguments(text: str) -> Mapping[str, Any]:
        return {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}

    call = {"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": ""}}
    events = [
        chunk(1, {"role": "assistant", "content": ""}),
        chunk(1, {"reasoning_content": "Hm"}),
        chunk(1, {"reasoning_content": "m. "}),
        chunk(1, {"content": "Hél"}, logprobs={"content": [{"token": "Hél"}]}),
        chunk(2, {"content": "lo"}, logprobs={"content": [{"token": "lo"}]}),
        chunk(2, {"refusal": "N"}),
        chunk(2, {"refusal": "o."}),
        chunk(2, {"tool_calls": [call]}),
        chunk(2, arguments('{"a"')),
        chunk(2, arguments(": 1}")),
        chunk(2, {}, finish_reason="tool_calls"),
        sse({"id": "c1", "choices": [], "created": 2, "usage": {"total_tokens": 9}}),
    ]
    tokens = [{"token": "Hél"}, {"token": "lo"}]
    merged = {
        1: chunk(1, {"reasoning_content": "Hmm. "}),
        3: chunk(2, {"content": "Héllo"}, logprobs={"content": tokens}),
        5: chunk(2, {"refusal": "No."}),
        8: chunk(2, arguments('{"a": 1}')),
    }
    yield from (Sample("openai-chat", events, *pair) for pair in merged.items())


def responses() -> Iterator[Sample]:
    def event(number: int, kind: str, **fields: Any) -> bytes:
        return named({"type": f"response.{kind}", "sequence_number": number, **fields})

    def response(status: str, output: list[Any]) -> Mapping[str, Any]:
        return {"id": "r1", "object": "response", "status": status, "output": output}

    def text(number: int, delta: str) -> bytes:
        place = {"item_id": "m1", "output_index": 0, "content_index": 0}
        return event(number, "output_text.delta", **place, delta=delta, logprobs=[])

    def arguments(number: int, delta: str) -> bytes:
        place = {"item_id": "f1", "output_index": 1}
        return event(number, "function_call_arguments.delta", **place, delta=delta)

    message = {"id": "m1", "type": "message", "role": "assistant", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    place = {"item_id": "m1", "output_index": 0, "content_index": 0}
    call = {"id": "f1", "type": "function_call", "call_id": "t1", "name": "f", "arguments": ""}
    whole = {**message, "content": [{**part, "text": "Hello"}]}
    called = {**call, "arguments": '{"a": 1}'}
    events = [
        event(0, "created", response=response("in_progress", [])),
        event(1, "output_item.added", output_index=0, item=message),
        event(2, "content_part.added", **place, part=part),
        text(3, "Hel"),
        text(4, "lo"),
        event(5, "output_item.done", output_index=0, item=whole),
        event(6, "output_item.added", output_index=1, item=call),
        arguments(7, '{"a"'),
        arguments(8, ": 1}"),
        event(9, "output_item.done", output_index=1, item=called),
        event(10, "completed", response=response("completed", [whole, called])),
    ]
    yield Sample("openai-responses", events, 3, text(4, "Hello"))
    yield Sample("openai-responses", events, 7, arguments(8, '{"a": 1}'))


def anthropic() -> Iterator[Sample]:
    def start(index: int, kind: str, **fields: Any) -> bytes:
        block = {"type": kind, **fields}
        return named({"type": "content_block_start", "index": index, "content_block": block})

    def delta(index: int, kind: str, **fields: Any) -> bytes:
        part = {"type": f"{kind}_delta", **fields}
        return named({"type": "content_block_delta", "index": index, "delta": part})

    def stop(index: int) -> bytes:
        return named({"type": "content_block_stop", "index": index})

    message = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": []}
    usage = {"input_tokens": 3, "output_tokens": 1}
    end = {"stop_reason": "tool_use", "stop_sequence": None}
    citation = {"type": "char_location", "cited_text": "Hello"}
    events = [
        named({"type": "message_start", "message": {**message, "usage": usage}}),
        start(0, "thinking", thinking="", signature=""),
        delta(0, "thinking", thinking="Hm"),
        delta(0, "thinking", thinking="m."),
        delta(0, "signature", signature="signed"),
        stop(0),
        start(1, "text", text=""),
        delta(1, "text", text="Hel"),
        delta(1, "text", text="lo"),
        delta(1, "citations", citation=citation),
        stop(1),
        start(2, "tool_use", id="t1", name="f", input={}),
        delta(2, "input_json", partial_json='{"a"'),
        delta(2, "input_json", partial_json=": 1}"),
        stop(2),
        named({"type": "message_delta", "delta": end, "usage": {"output_tokens": 9}}),
        named({"type": "message_stop"}),
    ]
    merged = {
        2: delta(0, "thinking", thinking="Hmm."),
        7: delta(1, "text", text="Hello"),
        12: delta(2, "input_json", partial_json='{"a": 1}'),
    }
    yield from (Sample("anthropic-messages", events, *pair) for pair in merged.items())


def gemini() -> Iterator[Sample]:
    def chunk(tokens: int, part: Mapping[str, Any], **candidate: Any) -> bytes:
        content = {"parts": [part], "role": "model"}
        candidates = [{"content": content, "index": 0, **candidate}]
        fields = {"candidates": candidates, "usageMetadata": {"totalTokenCount": tokens}}
        return sse({**fields, "responseId": "r1"}).replace(b"\n", b"\r\n")

    events = [
        chunk(1, {"text": "Hm", "thought": True}),
        chunk(2, {"text": "m.", "thought": True}),
        chunk(3, {"text": "Hel"}),
        chunk(4, {"text": "lo"}),
        chunk(5, {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"}),
        chunk(6, {"text": "!"}, finishReason="STOP"),
    ]
    yield Sample("gemini", events, 0, chunk(2, {"text": "Hmm.", "thought": True}))
    yield Sample("gemini", events, 2, chunk(4, {"text": "Hello"}))


def cohere() -> Iterator[Sample]:
    def event(kind: str, index: int | None = None, **message: Any) -> bytes:
        where = {} if index is None else {"index": index}
        return named({"type": kind, **where, "delta": {"message": message}})

    def arguments(text: str) -> bytes:
        return event("tool-call-delta", 0, tool_calls={"function": {"arguments": text}})

    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": ""}}
    citation = {"start": 0, "end": 5, "text": "Hello", "sources": []}
    end = {"finish_reason": "COMPLETE", "usage": {"tokens": {"output_tokens": 9}}}
    events = [
        named({"type": "message-start", "id": "m1", "delta": {"message": {"role": "assistant"}}}),
        event("tool-plan-delta", tool_plan="I "),
        event("tool-plan-delta", tool_plan="will."),
        event("tool-call-start", 0, tool_calls=call),
        arguments('{"a"'),
        arguments(": 1}"),
        named({"type": "tool-call-end", "index": 0}),
        event("content-start", 0, content={"type": "text", "text": ""}),
        event("content-delta", 0, content={"text": "Hel"}),
        event("content-delta", 0, content={"text": "lo"}),
        event("citation-start", 0, citations=citation),
        named({"type": "citation-end", "index": 0}),
        event("content-delta", 0, content={"thinking": "Hm"}),
        event("content-delta", 0, content={"thinking": "m."}),
        named({"type": "content-end", "index": 0}),
        named({"type": "message-end", "delta": end}),
    ]
    merged = {
        1: event("tool-plan-delta", tool_plan="I will."),
        4: arguments('{"a": 1}'),
        8: event("content-delta", 0, content={"text": "Hello"}),
        12: event("content-delta", 0, content={"thinking": "Hmm."}),
    }
    yield from (Sample("cohere", events, *pair) for pair in merged.items())


def mistral() -> Iterator[Sample]:
    def chunk(delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
        return sse({"id": "c1", "created": 1, "model": "m", "choices": choices})

    def thought(text: str) -> Mapping[str, Any]:
        parts = [{"type": "text", "text": text}]
        return {"content": [{"type": "thinking", "thinking": parts}]}

    call = {"index": 0, "id": "t1", "function": {"name": "f", "arguments": '{"a": 1}'}}
    events = [
        chunk({"role": "assistant", "content": ""}),
        chunk(thought("Hm")),
        chunk(thought("m.")),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk({"tool_calls": [call]}),
        chunk({"content": ""}, "tool_calls"),
    ]
    yield Sample("mistral", events, 1, chunk(thought("Hmm.")))
    yield Sample("mistral", events, 3, chunk({"content": "Hello"}))


def ollama() -> Iterator[Sample]:
    def part(second: int, *, done: bool = False, **fields: Any) -> bytes:
        created_at = f"2026-01-01T00:00:{second:02}Z"
        return line({"model": "m", "created_at": created_at, **fields, "done": done})

    def said(second: int, **message: Any) -> bytes:
        return part(second, message={"role": "assistant", **message})

    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    end = {"done_reason": "stop", "eval_count": 9}
    chat = [
        said(1, content="", thinking="Hm"),
        said(2, content="", thinking="m."),
        said(3, content="Hel"),
        said(4, content="lo"),
        said(5, content="", tool_calls=[call]),
        part(6, message={"role": "assistant", "content": ""}, done=True, **end),
    ]
    yield Sample("ollama", chat, 0, said(2, content="", thinking="Hmm."))
    yield Sample("ollama", chat, 2, said(4, content="Hello"))
    generate = [
        part(1, response="Hel"),
        part(2, response="lo"),
        part(3, response="", done=True, context=[1, 2], **end),
    ]
    yield Sample("ollama", generate, 0, part(2, response="Hello"))


KINDS: Final[list[Callable[[], Iterator[Sample]]]] = [
    chat,
    responses,
    anthropic,
    gemini,
    cohere,
    mistral,
    ollama,
]
