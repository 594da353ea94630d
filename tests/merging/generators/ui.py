"""Streams between an agent and its page: AG-UI, and the UI messages of Vercel's AI SDK."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.merging.generators.writer import Data, Raw, Track, Writer, interleave


def _ag_ui_message(kind: str, id_: str, **beside: Any) -> Track:
    key = {"messageId": id_}
    role = "reasoning" if kind == "REASONING_MESSAGE" else "assistant"
    return Track(
        lambda text: {"type": f"{kind}_CONTENT", **key, "delta": text, **beside},
        opening=[{"type": f"{kind}_START", **key, "role": role}],
        closing=[{"type": f"{kind}_END", **key}],
    )


def _ag_ui_call(id_: str) -> Track:
    key = {"toolCallId": id_}
    return Track(
        lambda text: {"type": "TOOL_CALL_ARGS", **key, "delta": text},
        opening=[{"type": "TOOL_CALL_START", **key, "toolCallName": "f"}],
        closing=[{"type": "TOOL_CALL_END", **key}],
    )


def _ag_ui_chunks(id_: str) -> Track:
    """Return a message without start and end events: its first chunk has the role."""
    key = {"type": "TEXT_MESSAGE_CHUNK", "messageId": id_}
    opening = [{**key, "role": "assistant", "delta": "first"}]
    return Track(lambda text: {**key, "delta": text}, opening)


def ag_ui(writer: Writer) -> None:
    """Write a run: messages, reasoning and tool calls, with state events between deltas."""
    clock = writer.choose(["none", "milliseconds", "milliseconds"])

    def stamp(data: Data) -> Data:
        time = {} if clock == "none" else {"timestamp": 1790000000000 + writer.tick}
        return {"type": data["type"], **time, **data}

    writer.stamp = stamp
    tracks = [
        _ag_ui_message("TEXT_MESSAGE", "m1"),
        _ag_ui_call("t1"),
        _ag_ui_message("REASONING_MESSAGE", "r1"),
        _ag_ui_call("t2"),
        _ag_ui_message("TEXT_MESSAGE", "m2", metadata={"k": 1}),
        _ag_ui_chunks("m3"),
        _ag_ui_message("TEXT_MESSAGE", "m4", rawEvent={"of": "the provider"}),
    ]
    patch = [{"op": "replace", "path": "/cups", "value": 2}]
    barriers: list[Data] = [
        {"type": "STATE_DELTA", "delta": patch},
        {"type": "STATE_SNAPSHOT", "snapshot": {"cups": 0}},
        {"type": "CUSTOM", "name": "progress", "value": 1},
        {"type": "RAW", "event": {"a": 1}},
        {"type": "TOOL_CALL_RESULT", "messageId": "r", "toolCallId": "t", "content": "ok"},
    ]
    run = {"threadId": "thread", "runId": "run"}
    writer.event({"type": "RUN_STARTED", **run})
    interleave(writer, tracks[: writer.choose([1, 3, 7])], barriers)
    ending = writer.choose(["finished", "error", "cut"])
    if ending == "finished":
        writer.event({"type": "RUN_FINISHED", **run})
    elif ending == "error":
        writer.event({"type": "RUN_ERROR", "message": "overloaded"})


def _vercel_part(kind: str, id_: str, **beside: Any) -> Track:
    return Track(
        lambda text: {"type": f"{kind}-delta", "id": id_, "delta": text, **beside},
        opening=[{"type": f"{kind}-start", "id": id_}],
        closing=[{"type": f"{kind}-end", "id": id_}],
    )


def _vercel_call(id_: str) -> Track:
    key = {"toolCallId": id_}

    def delta(text: Raw) -> Data:
        return {"type": "tool-input-delta", **key, "inputTextDelta": text}

    return Track(
        delta,
        opening=[{"type": "tool-input-start", **key, "toolName": "f"}],
        closing=[{"type": "tool-input-available", **key, "toolName": "f", "input": {}}],
    )


def vercel_ui(writer: Writer) -> None:
    """Write a message of several parts in one step."""

    def changing(text: Raw) -> Data:
        metadata = {"p": {"k": writer.tick % 2}}
        return {"type": "text-delta", "id": "4", "delta": text, "providerMetadata": metadata}

    tracks = [
        _vercel_part("text", "1"),
        _vercel_part("reasoning", "2"),
        _vercel_call("call_1"),
        _vercel_call("call_2"),
        _vercel_part("text", "3", providerMetadata={"p": {"k": 1}}),
        replace(_vercel_part("text", "4"), delta=changing),
    ]
    barriers: list[Data] = [
        {"type": "data-progress", "data": {"percent": 40}, "transient": True},
        {"type": "message-metadata", "messageMetadata": {"k": 1}},
        {"type": "source-url", "sourceId": "s", "url": "https://example.com"},
    ]
    if writer.sometimes():
        writer.comment()
    writer.event({"type": "start", "messageId": "ui"})
    writer.event({"type": "start-step"})
    interleave(writer, tracks[: writer.choose([1, 3, 6])], barriers)
    ending = writer.choose(["finish", "error", "abort", "cut"])
    if ending == "finish":
        writer.event({"type": "finish-step"})
        writer.event({"type": "finish"})
        writer.event("[DONE]")
    elif ending == "error":
        writer.event({"type": "error", "errorText": "overloaded"})
    elif ending == "abort":
        writer.event({"type": "abort"})
