"""A blocking agent, as most agents are: `run` occupies its thread until the answer is complete.

Only `interrupt` stops the agent early. Cancelling the asyncio task that waits for it does not,
because Python cannot stop a thread from outside.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Any

ANSWER = (Path(__file__).parent / "answer.md").read_text(encoding="utf-8").strip()
TOKENS_PER_SECOND = 80.0
READING_SECONDS = 0.3  # time for the model to read the question, before the first token

# Pieces of up to five characters, with the space before them. A tokenizer cuts English prose in
# about this way. Each character is in exactly one piece.
_TOKEN = re.compile(r"\s?\S{1,5}|\s")

# The question to a real server, whose answer should be about as long as the replayed one.
_PROMPT = "Tell me in 500 words how a message travels from a keyboard to a language model and back."

Chunk = dict[str, Any]
"""One `chat.completion.chunk` of OpenAI's Chat Completions API."""

Source = Callable[[threading.Event], Generator[Chunk, None, None]]
"""Yields the chunks of an answer, and blocks in between. May end early once the event is set."""


class AgentState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


class Agent:
    """The writer of one answer. Call `run` in a thread, and `interrupt` from any thread."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._interrupted = threading.Event()
        self.state = AgentState.WAITING
        self.tokens = 0
        self.message: str | None = None
        """The message that `interrupt` was called with."""
        self.error: Exception | None = None
        self.ended_at: float | None = None
        """When the thread left `run` (`time.monotonic()`). After that no token is spent."""

    def run(self, emit: Callable[[str], None]) -> None:
        """Pass each chunk of the answer to `emit` as JSON, and return at the end."""
        self.state = AgentState.RUNNING
        state = AgentState.FINISHED
        try:
            # Closed at once, and not by the garbage collector: a real model's server stops only
            # when its connection is closed.
            with closing(self._source(self._interrupted)) as chunks:
                for chunk in chunks:
                    # A token counts as spent once the model has made it, even if the agent was
                    # interrupted before it arrived here and nobody will see it.
                    self.tokens += _is_token(chunk)
                    if self._interrupted.is_set():
                        break
                    emit(json.dumps(chunk))
            if self._interrupted.is_set():
                state = AgentState.INTERRUPTED
        except Exception as error:  # noqa: BLE001 (the page shows any error)
            self.error = error
            state = AgentState.FAILED
        self.ended_at = time.monotonic()
        self.state = state

    def interrupt(self, message: str) -> None:
        """Ask the agent to stop, and say why. Return at once. Only the first call counts."""
        if self.ended_at is None and not self._interrupted.is_set():
            self.message = message
            self._interrupted.set()


def replay(text: str = ANSWER, tokens_per_second: float = TOKENS_PER_SECOND) -> Source:
    """Return a source without a model. It yields `text`, token by token, at a steady pace."""

    def chunks(interrupted: threading.Event) -> Generator[Chunk, None, None]:
        yield _chunk({"role": "assistant", "content": ""})
        if interrupted.wait(READING_SECONDS):
            return
        started = time.monotonic()
        for position, token in enumerate(_TOKEN.findall(text)):
            # Each time is counted from the start, so one late wake-up does not delay the rest.
            due = started + position / tokens_per_second
            if interrupted.wait(max(0.0, due - time.monotonic())):
                return
            yield _chunk({"content": token})
        yield _chunk({}, finish_reason="stop")

    return chunks


def ask_openai(model: str) -> Source:
    """Return a source that asks the server at `OPENAI_BASE_URL`, with `OPENAI_API_KEY`.

    The source blocks in a read, and notices an interruption only when the next chunk arrives. So
    one more token is spent.
    """

    def chunks(interrupted: threading.Event) -> Generator[Chunk, None, None]:
        from openai import OpenAI  # optional, only needed with a real server

        with (
            OpenAI() as client,
            client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": _PROMPT}], stream=True
            ) as stream,
        ):
            for chunk in stream:
                yield chunk.model_dump(exclude_unset=True)

    return chunks


def configured_source(tokens_per_second: float) -> Source:
    """Return the source for a real server if the environment names one, else the replay."""
    if os.environ.get("OPENAI_BASE_URL") and os.environ.get("OPENAI_API_KEY"):
        return ask_openai(os.environ.get("OPENAI_MODEL", "gpt-4o-mini"))
    return replay(tokens_per_second=tokens_per_second)


def _chunk(delta: dict[str, str], finish_reason: str | None = None) -> Chunk:
    # The id and the time are fixed: the check compares two answers byte for byte.
    return {
        "id": "chatcmpl-replay",
        "object": "chat.completion.chunk",
        "created": 1767225600,
        "model": "replay",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


def _is_token(chunk: Chunk) -> bool:
    """Return True if `chunk` has text. Real servers may put more than one token in a chunk."""
    return any(choice.get("delta", {}).get("content") for choice in chunk.get("choices", ()))
