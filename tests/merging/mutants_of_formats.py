"""Mutants of the formats: for each file, the broken rule, the old text and the new text."""

from __future__ import annotations

from typing import Final

OF_FORMATS: Final[dict[str, list[tuple[str, str, str]]]] = {
    "formats/openai_chat.py": [
        ("usage forbids merging", '"usage", ', ""),
        ("error forbids merging", '"error", ', ""),
        ("x_groq forbids merging", '"x_groq", ', ""),
        ("moderation forbids merging", ', "moderation"', ""),
        ("a finish forbids merging", '"choices.0.finish_reason", ', ""),
        ("a native finish forbids merging", ', "choices.0.native_finish_reason"', ""),
        ("text beside the delta forbids merging", ', "choices.0.text"', ""),
        ("the last time counts", '"created", ', ""),
        ("the last padding counts", '"obfuscation", ', ""),
        ("Mistral's last padding counts", ', "p"', ""),
        ("logprobs are joined", '"choices.0.logprobs.content", ', ""),
        ("logprobs of refusals are joined", '"choices.0.logprobs.refusal", ', ""),
        ("token ids are joined", ', "choices.0.token_ids"', ""),
        ("one choice", '("choices", *single)', "single"),
        ("one tool call", '            single=(f"{DELTA}.tool_calls",),\n', ""),
        (
            "the opener of a tool call",
            'TOOL_CALL: ("index", "function")',
            'TOOL_CALL: ("index", "function", "id", "type")',
        ),
        (
            "the name of a tool",
            'f"{TOOL_CALL}.function": ("arguments",)',
            'f"{TOOL_CALL}.function": ("arguments", "name")',
        ),
        (
            "the name of a function",
            'f"{DELTA}.function_call": ("arguments",)',
            'f"{DELTA}.function_call": ("arguments", "name")',
        ),
        (
            "a role forbids merging",
            "recognise=_is_chat, rules=_rules())",
            'recognise=_is_chat, rules=_rules("role"))',
        ),
        ("a channel may be repeated", '_rules("role", "channel")', '_rules("role")'),
        ("nothing but one text", "_rule(name, {DELTA: (name, *equal)})", "_rule(name, {})"),
        (
            "nothing in a thought but its text",
            'THOUGHT: ("type", "thinking", "closed")',
            'THOUGHT: ("type", "thinking", "closed", "new")',
        ),
        ("one thought", 'single=(f"{DELTA}.content", f"{THOUGHT}.thinking")', "single=()"),
    ],
    "formats/openai_completions.py": [
        ("usage forbids merging", '"usage", ', ""),
        ("logprobs forbid merging", ', "choices.0.logprobs"', ""),
        ("a finish forbids merging", ', "choices.0.finish_reason"', ""),
        ("one choice", 'single=("choices",),', ""),
        ("the last time counts", 'last=("created",),', ""),
    ],
    "formats/openai_responses.py": [
        (
            "audio is not merged",
            '        "response.audio.transcript.delta",\n',
            '        "response.audio.transcript.delta",\n        "response.audio.delta",\n',
        ),
        ("the last number counts", '"sequence_number", ', ""),
        ("the last padding counts", ', "obfuscation")', ",)"),
        ("logprobs are joined", 'join=("logprobs",),', ""),
        ("the answer to GET is a replay", "get_is_replay=True", "get_is_replay=False"),
        ("tags are for text", "text=text,", "text=True,"),
        ("tags are looked for in text", "text=text,", "text=False,"),
    ],
    "formats/anthropic_messages.py": [
        (
            "events without a name are not merged",
            'event="content_block_delta",\n            where={"type": "content_block_delta", ',
            'where={"type": "content_block_delta", ',
        ),
        ("estimated tokens forbid merging", 'only={"delta": ("type", field)},', ""),
        (
            "signatures are not merged",
            '("input_json_delta", "partial_json"),',
            '("input_json_delta", "partial_json"),\n            ("signature_delta", "signature"),',
        ),
        (
            "compactions are not merged",
            '("input_json_delta", "partial_json"),',
            '("input_json_delta", "partial_json"),\n            ("compaction_delta", "content"),',
        ),
        ("input is no text", 'text=field != "partial_json"', "text=True"),
        ("thoughts are text", 'text=field != "partial_json"', 'text=field == "text"'),
    ],
    "formats/ag_ui.py": [
        ("raw events forbid merging", 'empty=("rawEvent",),', ""),
        ("the last time counts", 'last=("timestamp",),', ""),
        ("metadata has to be equal", 'last=("timestamp",),', 'last=("timestamp", "metadata"),'),
        ("arguments are no text", "text=text,", "text=True,"),
        ("a run may begin with an error", ', "RUN_ERROR"', ""),
        ("state is no text", '"TOOL_CALL_ARGS", ', '"TOOL_CALL_ARGS", "STATE_DELTA", '),
    ],
    "formats/vercel_ui.py": [
        ("the header", 'header=b"x-vercel-ai-ui-message-stream"', "header=None"),
        ("the key", "present=(key,),", ""),
        ("metadata forbids merging", 'empty=("providerMetadata",),', ""),
        ("input is no text", 'text=delta == "delta"', "text=True"),
    ],
    "formats/gemini.py": [
        ("the last total counts", 'last=("usageMetadata",),', ""),
        ("a finish does not wait", ', "candidates.0.finishReason"', ""),
        (
            "a signature forbids merging",
            '("text", "thought")',
            '("text", "thought", "thoughtSignature")',
        ),
        ("feedback does not wait", '"promptFeedback", ', ""),
        ("one answer", 'single=("candidates", ', "single=("),
        ("one part", ', "candidates.0.content.parts")', ",)"),
        (
            "usage alone is no Gemini",
            '"usageMetadata" in value and ("responseId" in value or "modelVersion" in value)',
            '"usageMetadata" in value',
        ),
    ],
    "formats/cohere_chat.py": [
        ("logprobs forbid merging", 'empty=("logprobs",),', ""),
        ("nothing but the text", "only={inside: (name,)},", ""),
        (
            "arguments are no text",
            '"tool_calls.function.arguments", text=False',
            '"tool_calls.function.arguments", text=True',
        ),
    ],
    "formats/ollama.py": [
        ("the last line is not merged", 'where={"done": False},', ""),
        ("the last time counts", 'last=("created_at",),', ""),
        ("logprobs are joined", 'join=("logprobs",),', ""),
        ("tool calls forbid merging", '("role", name)', '("role", "tool_calls", name)'),
        ("figures forbid merging", '"done", "logprobs")', '"done", "logprobs", "eval_count")'),
    ],
    "formats/plain_text.py": [
        ("JSON is not merged", '(b"{", b"[")', '(b"[",)'),
        ("sentinels are not merged", '(b"{", b"[")', '(b"{",)'),
        ("empty data is not merged", 'and text != b""', ""),
        ("other fields forbid merging", "return event.plain and", "return"),
        ("another name forbids merging", "return event.name, event.id", 'return "", event.id'),
        ("an extra id forbids merging", "event.name, event.id is not None", "event.name, True"),
        ("a space after the colon", 'b"data: %b%b"', 'b"data:%b%b"'),
        (
            "the text is in place of the first line of data",
            "                lines = None",
            "                pass",
        ),
        (
            "a chunk may be more than an event",
            "read_event(block) if is_one_block(block) else None",
            "read_event(block)",
        ),
    ],
    "formats/delta_format.py": [
        ("without `event`, events have no name", 'event=self.event or ""', "event=self.event"),
        ("type", '{} if self.type is None else {"type": self.type}', "{}"),
        ("same", "present=tuple(self.same),", ""),
        ("last", "last=tuple(self.last),", ""),
        ("join", "join=tuple(self.join),", ""),
        ("overlapping", "if is_within(one, other) or is_within(other, one):", "if one == other:"),
        (
            "names that begin alike",
            "parse_path(path)[: len(outer)] == outer",
            "path.startswith(other)",
        ),
        ("a path is checked", 'or not all(path.split("."))', ""),
    ],
}
