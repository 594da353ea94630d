"""Chat Completions, as OpenAI and other servers send them, and Responses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

from tests.merging.generators.writer import Data, Raw, Track, Writer, interleave

HABITS: Final[list[Data]] = [
    {"content": ""},
    {"content": None},
    {"role": "assistant"},
    {"role": "assistant", "content": ""},
    {"channel": "analysis"},
    {"tool_calls": None, "refusal": ""},
]
"""Members that a server puts into every delta, beside the text."""


class Chat:
    """A server, with habits that hold for the whole stream."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.beside = writer.choose([{}, {}, *HABITS])
        self.logprobs = writer.choose(["absent", "absent", "null", "nulls", "list"])
        self.token_ids = writer.sometimes()
        envelopes: list[Data] = [{}, {"usage": None}, {"provider": "p", "system_fingerprint": None}]
        self.envelope = writer.choose(envelopes)
        self.moving = writer.choose([[], [], ["created"], ["created", "obfuscation"]])
        self.reasoning = writer.choose(["reasoning", "reasoning_content"])

    def stamp(self, data: Data) -> Data:
        if "choices" not in data:
            return data
        tick = self.writer.tick
        head = {"id": "c1", "object": "chat.completion.chunk", "model": "m", "created": 1790000000}
        if "created" in self.moving:
            head["created"] = 1790000000 + tick
        padding = {"obfuscation": "x" * (tick % 16)} if "obfuscation" in self.moving else {}
        return {**head, **self.envelope, **data, **padding}

    def choice(self, delta: Data, index: int = 0, reason: str | None = None) -> Data:
        choice: Data = {"index": index, "delta": delta, "finish_reason": reason}
        if self.logprobs != "absent":
            choice["logprobs"] = self._logprobs("refusal" if "refusal" in delta else "content")
        if self.token_ids:
            choice["token_ids"] = list(range(self.writer.tick % 3))
        return {"choices": [choice]}

    def _logprobs(self, key: str) -> Data | None:
        if self.logprobs == "null":
            return None
        nothing: Data = {"content": None, "refusal": None}
        if self.logprobs == "nulls":
            return nothing
        token = {"token": "t", "logprob": -0.5, "bytes": [116], "top_logprobs": []}
        return {**nothing, key: [token] * (self.writer.tick % 3)}

    def text(self, key: str, index: int = 0) -> Track:
        return Track(lambda text: self.choice({**self.beside, key: text}, index))

    def second_choice(self) -> Track:
        return Track(
            self.text("content", index=1).delta,
            opening=[self.choice({"role": "assistant", "content": ""}, 1)],
            closing=[self.choice({}, 1, "stop")],
        )

    def thinking(self) -> Track:
        """Thoughts as Mistral sends them: the content is a list."""

        def delta(text: Raw) -> Data:
            part = {"type": "thinking", "thinking": [{"type": "text", "text": text}]}
            return self.choice({"content": [part]})

        return Track(delta)

    def call(self, number: int) -> Track:
        def part(**fields: Any) -> Data:
            return self.choice({**self.beside, "tool_calls": [{"index": number, **fields}]})

        function = {"name": f"f{number}", "arguments": ""}
        return Track(
            lambda text: part(function={"arguments": text}),
            opening=[part(id=f"call_{number}", type="function", function=function)],
        )

    def legacy_call(self) -> Track:
        opening = self.choice({"function_call": {"name": "f", "arguments": ""}})
        return Track(lambda text: self.choice({"function_call": {"arguments": text}}), [opening])

    def tracks(self) -> list[Track]:
        return [
            self.text("content"),
            self.text(self.reasoning),
            self.text("refusal"),
            self.call(0),
            self.call(1),
            self.second_choice(),
            self.thinking(),
            self.legacy_call(),
        ]

    def barriers(self) -> list[Data]:
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        two = [{"index": index, "delta": {"content": "x"}} for index in (0, 1)]
        return [
            {"choices": [], "usage": usage},
            {**self.choice({"content": "with usage"}), "usage": usage},
            {"choices": two},
            self.choice({"content": "said", "reasoning": "and thought"}),
            self.choice({"content": "both", "refusal": "no"}),
            self.choice({"content": "x", "annotations": [{"type": "url_citation"}]}),
            self.choice({"content": "x", "token_id": 5}),
            self.choice({"content": "", "reasoning_details": [{"index": 0, "text": "x"}]}),
            {"choices": [{"index": 0, "delta": {"content": "x"}, "text": "x"}]},
            {**self.choice({"content": "x"}), "x_groq": {"id": "r"}},
            {"id": "other", **self.choice({"content": "x"})},
            self.choice({}),
        ]


def chat(writer: Writer) -> None:
    """Write a stream of Chat Completions."""
    server = Chat(writer)
    writer.stamp = server.stamp
    if writer.sometimes():
        writer.comment()
    first = writer.choose(["", "", "The"])
    writer.event(server.choice({"role": "assistant", "content": first}))
    count = writer.choose([1, 2, 8])
    interleave(writer, server.tracks()[:count], server.barriers())
    ending = writer.choose(["done", "usage", "error", "cut"])
    if ending in ("done", "usage"):
        writer.event(server.choice({}, reason=writer.choose(["stop", "tool_calls"])))
        if ending == "usage":
            writer.event(server.barriers()[0])
        writer.event("[DONE]")
    elif ending == "error":
        writer.event({"error": {"message": "overloaded", "type": "server_error"}}, "error")


def _response(status: str, **fields: Any) -> Data:
    answer = {"id": "resp_1", "object": "response", "status": status, "output": [], **fields}
    return {"type": f"response.{status}", "response": answer}


MESSAGE: Final[Data] = {"type": "message", "role": "assistant", "content": []}
REASONING: Final[Data] = {"type": "reasoning", "summary": [], "content": []}
TEXT: Final[Data] = {"type": "output_text", "text": "", "annotations": []}
CODE: Final[Data] = {"type": "code_interpreter_call", "code": "", "container_id": "c"}
CALL: Final[Data] = {"type": "function_call", "name": "f", "call_id": "c", "arguments": ""}


def _item(
    index: int, *, kind: str, item: Data, part: Data | None = None, list_: str = "content"
) -> Track:
    """Return an output item whose text comes in deltas of one kind, with or without a part."""
    where: Data = {"item_id": f"item_{index}", "output_index": index}
    added = {"output_index": index, "item": {"id": f"item_{index}", **item}}
    opening = [{"type": "response.output_item.added", **added}]
    if part is not None:
        where[f"{list_}_index"] = 0
        name = "content_part" if list_ == "content" else "reasoning_summary_part"
        opening.append({"type": f"response.{name}.added", **where, "part": part})
    return Track(lambda text: {"type": f"response.{kind}.delta", **where, "delta": text}, opening)


def _text_item(index: int, *, logprobs: Callable[[], list[Data]]) -> Track:
    track = _item(index, kind="output_text", item=MESSAGE, part=TEXT)
    return replace(track, delta=lambda text: {**track.delta(text), "logprobs": logprobs()})


def responses(writer: Writer) -> None:
    """Write the events of one response, with several items."""
    numbered = not writer.sometimes()
    padded = writer.choose([None, "", "x"])
    sent = iter(range(1_000_000))

    def stamp(data: Data) -> Data:
        number = {"sequence_number": next(sent)} if numbered else {}
        is_delta = str(data["type"]).endswith(".delta")
        filler = "" if padded is None else padded * (writer.tick % 16)
        padding = {"obfuscation": filler} if is_delta and padded is not None else {}
        return {"type": data["type"], **number, **data, **padding}

    writer.stamp = stamp
    if not writer.sometimes():  # OpenRouter sends events without names
        writer.name = lambda data: str(data["type"])
    token = {"token": "t", "logprob": -0.5, "bytes": [116], "top_logprobs": []}
    refusal = {"type": "refusal", "refusal": ""}
    summary = {"type": "summary_text", "text": ""}
    thought = {"type": "reasoning_text", "text": ""}
    tracks = [
        partial(_text_item, logprobs=list),
        partial(_item, kind="function_call_arguments", item=CALL),
        partial(
            _item, kind="reasoning_summary_text", item=REASONING, part=summary, list_="summary"
        ),
        partial(_text_item, logprobs=lambda: [token] * (writer.tick % 3)),
        partial(_item, kind="refusal", item=MESSAGE, part=refusal),
        partial(_item, kind="reasoning_text", item=REASONING, part=thought),
        partial(_item, kind="code_interpreter_call_code", item=CODE),
        partial(_item, kind="audio", item=MESSAGE),  # pieces of base64 cannot be joined
    ]
    barriers: list[Data] = [{"type": "keepalive"}, {"type": "keepalive", "note": 1}]
    writer.event({**_response("in_progress"), "type": "response.created"})
    interleave(writer, tracks[: writer.choose([1, 3, 8])], barriers)
    ending = writer.choose(["completed", "failed", "error", "cut"])
    if ending == "error":
        writer.event({"type": "error", "code": "server_error", "message": "overloaded"})
    elif ending != "cut":
        writer.event(_response(ending, usage={"total_tokens": 9}))
