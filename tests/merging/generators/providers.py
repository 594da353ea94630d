"""Streams of providers with their own formats, and streams of plain text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import strategies as st

from tests.merging.generators.texts import inner_runs
from tests.merging.generators.writer import Data, Raw, Track, Writer, interleave


def _type(data: Data) -> str:
    return str(data.get("type", ""))


def _block(index: int, *, kind: str, key: str, start: Data, **beside: Any) -> Track:
    def delta(text: Raw) -> Data:
        inside = {"type": kind, key: text, **beside}
        return {"type": "content_block_delta", "index": index, "delta": inside}

    return Track(
        delta,
        opening=[{"type": "content_block_start", "index": index, "content_block": start}],
        closing=[{"type": "content_block_stop", "index": index}],
    )


def _tool_block(index: int) -> Track:
    """Return a block of tool input. The joined input has to be JSON."""
    tool = {"type": "tool_use", "id": f"toolu_{index}", "name": "f", "input": {}}
    track = _block(index, kind="input_json_delta", key="partial_json", start=tool)
    start = [track.delta(Raw("")), track.delta(Raw('{\\"text\\": \\"'))]
    return Track(
        track.delta,
        opening=[*track.opening, *start],
        closing=[track.delta(Raw('\\"}')), *track.closing],
        texts=inner_runs,
    )


def anthropic(writer: Writer) -> None:
    """Write a message of several blocks, with pings, signatures and citations between deltas."""
    writer.name = _type
    writer.padding = writer.choose([True, True, False])
    text = {"type": "text", "text": ""}
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    tracks: list[Callable[[int], Track]] = [
        partial(_block, kind="text_delta", key="text", start=text),
        partial(_block, kind="thinking_delta", key="thinking", start=thinking),
        _tool_block,
        partial(_block, kind="text_delta", key="text", start=text),
        partial(_block, kind="thinking_delta", key="thinking", start=thinking, estimated_tokens=3),
        partial(_block, kind="signature_delta", key="signature", start=thinking),
    ]
    citation = {"type": "citations_delta", "citation": {"cited_text": "x"}}
    signature = {"type": "signature_delta", "signature": "AAA="}
    barriers: list[Data] = [
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": citation},
        {"type": "content_block_delta", "index": 1, "delta": signature},
        {"type": "new_kind_of_event", "index": 0},
    ]
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": []}
    usage = {"input_tokens": 1, "output_tokens": 1}
    unfinished = {"stop_reason": None, "stop_sequence": None}
    writer.event({"type": "message_start", "message": {**message, **unfinished, "usage": usage}})
    interleave(writer, tracks[: writer.choose([1, 3, 6])], barriers)
    ending = writer.choose(["stop", "error", "cut"])
    if ending == "stop":
        usage = {"output_tokens": writer.tick}
        delta = {"stop_reason": "end_turn", "stop_sequence": None}
        writer.event({"type": "message_delta", "delta": delta, "usage": usage})
        writer.event({"type": "message_stop"})
    elif ending == "error":
        writer.event({"type": "error", "error": {"type": "overloaded_error", "message": "x"}})


def gemini(writer: Writer) -> None:
    """Write responses of one part each, with a usage that grows."""
    usages = writer.choose(["growing", "growing", "none", "now and then"])

    def response(part: Data, **beside: Any) -> Data:
        content = {"parts": [part], "role": "model"}
        candidate = {"content": content, **beside}
        return {"candidates": [{**candidate, "index": 0}]}

    def stamp(data: Data) -> Data:
        usage: Data = {"promptTokenCount": 5, "totalTokenCount": 5 + writer.tick}
        if writer.tick > 9:
            usage["thoughtsTokenCount"] = 4
        here = usages == "growing" or (usages == "now and then" and writer.tick % 2)
        return {**data, **({"usageMetadata": usage} if here else {}), "modelVersion": "m"}

    writer.stamp = stamp
    tracks = [
        Track(lambda text: response({"text": text})),
        Track(lambda text: response({"text": text, "thought": True})),
        Track(lambda text: response({"text": text}, groundingMetadata={})),
    ]
    call = {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "AAA="}
    two = {"parts": [{"text": "a"}, {"text": "b"}], "role": "model"}
    barriers: list[Data] = [
        response(call),
        {"candidates": [{"content": two, "index": 0}]},
        response({"text": "x", "thoughtSignature": "AAA="}),
        response({"text": "x"}, safetyRatings=[{"category": "c"}]),
        {**response({"text": "x"}), "promptFeedback": {"blockReason": "OTHER"}},
    ]
    interleave(writer, tracks[: writer.choose([1, 2, 3])], barriers)
    ending = writer.choose(["stop", "error", "cut"])
    if ending == "stop":
        writer.event(response({"text": "."}, finishReason="STOP"))
    elif ending == "error":
        writer.event({"error": {"code": 503, "message": "overloaded"}})


def cohere(writer: Writer) -> None:
    """Write a chat of version 2: a plan, tool calls, thoughts, text, citations."""
    writer.name = _type

    def event(kind: str, message: Data, index: int | None = None, **beside: Any) -> Data:
        where = {} if index is None else {"index": index}
        return {"type": kind, **where, "delta": {"message": message}, **beside}

    def part(index: int, key: str, **beside: Any) -> Track:
        return Track(
            lambda text: event("content-delta", {"content": {key: text}}, index, **beside),
            opening=[event("content-start", {"content": {"type": key, key: ""}}, index)],
            closing=[{"type": "content-end", "index": index}],
        )

    def call(index: int) -> Track:
        start = {"id": f"call_{index}", "function": {"name": "f", "arguments": ""}}

        def delta(text: Raw) -> Data:
            arguments = {"function": {"arguments": text}}
            return event("tool-call-delta", {"tool_calls": arguments}, index)

        return Track(
            delta,
            opening=[event("tool-call-start", {"tool_calls": start}, index)],
            closing=[{"type": "tool-call-end", "index": index}],
        )

    tracks = [
        part(0, "text"),
        part(1, "thinking"),
        call(0),
        Track(lambda text: event("tool-plan-delta", {"tool_plan": text})),
        call(1),
        part(2, "text", logprobs={"token_ids": [1], "text": "x"}),
    ]
    citation = {"citations": {"start": 0, "end": 1, "text": "x"}}
    barriers = [event("citation-start", citation, 0), {"type": "citation-end", "index": 0}]
    writer.event({"id": "1", "type": "message-start", "delta": {"message": {"content": []}}})
    interleave(writer, tracks[: writer.choose([1, 3, 6])], barriers)
    if not writer.sometimes():
        writer.event({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}})
        writer.event("[DONE]")


def ollama(writer: Writer) -> None:
    """Write the lines of `/api/chat` or `/api/generate`."""
    chat = not writer.sometimes()
    logprobs = writer.sometimes()

    def line(text: Data, **more: Any) -> Data:
        body = {"message": {"role": "assistant", **text}} if chat else text
        return {**body, "done": False, **more}

    def stamp(data: Data) -> Data:
        now = f"2026-09-21T14:13:20.{writer.tick:09d}Z"
        tokens = [{"token": "t", "logprob": -0.5}] * (writer.tick % 3)
        more = {"logprobs": tokens} if logprobs and data.get("done") is False else {}
        return {"model": "m", "created_at": now, **data, **more} if "done" in data else data

    writer.stamp = stamp
    key = "content" if chat else "response"
    tracks = [
        Track(lambda text: line({key: text})),
        Track(lambda text: line({key: "", "thinking": text})),
        Track(lambda text: line({key: text, "thinking": ""})),
    ]
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    barriers = [line({key: "", "tool_calls": [call]}), line({key: "said", "thinking": "thought"})]
    interleave(writer, tracks[: writer.choose([1, 2, 3])], barriers)
    ending = writer.choose(["done", "error", "cut"])
    if ending == "done":
        writer.event(line({key: ""}, done=True, done_reason="stop", total_duration=812345678))
    elif ending == "error":
        writer.event({"error": "overloaded"})


def plain_text(writer: Writer) -> None:
    """Write tokens as plain text. Some have several lines, some have an event name."""
    awkward = [
        "",
        " ",
        "  two",
        "\n",
        "a\nb",
        "\n\n",
        "<think>",
        "[1]",
        "{",
        '"',
        "\\n",
        "日本",
        ":",
    ]
    letters = st.characters(exclude_categories=["Cs"], exclude_characters="\r\n")
    words = st.sampled_from(["tea", " is", " hot", ".", *awkward])
    tokens = st.lists(st.one_of(words, st.text(letters, max_size=5)), min_size=1, max_size=6)
    runs = st.lists(st.tuples(st.sampled_from(["", "", "token", "thought"]), tokens), max_size=5)
    for name, texts in writer.draw(runs):
        for text in texts:
            writer.event(text, name)
    ending = writer.choose(["[DONE]", "[END]", "cut"])
    if ending != "cut":
        writer.event(ending)
