"""What the official Python client of a format makes of a stream.

`final(format, body)` serves `body` to the client without a network. The clients are the SDKs of the
providers, each with a transport that serves the body.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, Protocol

import anthropic
import cohere
import httpx
import httpx2
import mistralai.client
import ollama
import openai
from google import genai

from tests.merging import shapes
from tests.merging.joined import Event, Shape, joined, with_whole_characters

MODEL: Final = "m"
QUESTION: Final = "Say something."
EVENT_STREAM: Final = {"content-type": "text/event-stream; charset=utf-8"}
NDJSON: Final = {"content-type": "application/x-ndjson"}

SERVED: Final[ContextVar[bytes]] = ContextVar("SERVED")


class Reader(NamedTuple):
    """A client."""

    events: Callable[[], Iterable[Event]]
    """Return the events that the client yields."""
    shape: Shape
    results: Callable[[], Mapping[str, object]] = dict
    """Return what the client accumulates, if the client accumulates anything."""


def final(format: str, body: bytes) -> Mapping[str, object]:
    """Return what the client ends up with. It is the same for streams with the same meaning.

    `events` are the events that the client yields, in order, with adjacent deltas joined. If the
    client raises, the last one is `("raised", name of the exception, message)`. Other keys are what
    the client accumulates. If it raises, they are `("raised", name, message, result so far)`.
    """
    reader = READERS[format]
    token = SERVED.set(body)
    try:
        events, raised = until_raised(reader.events())
        result = {"events": [*joined(events, reader.shape), *raised], **reader.results()}
    finally:
        SERVED.reset(token)
    return {key: with_whole_characters(value) for key, value in result.items()}


# Serving. Some SDKs use httpx, others its successor httpx2.


def answer(request: httpx.Request) -> httpx.Response:
    headers = NDJSON if request.url.path.startswith("/api/") else EVENT_STREAM
    return httpx.Response(200, headers=headers, content=SERVED.get())


def answer2(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, headers=EVENT_STREAM, content=SERVED.get())


def offline2() -> httpx2.Client:
    return httpx2.Client(transport=httpx2.MockTransport(answer2))


OPENAI: Final = openai.OpenAI(api_key="none", http_client=offline2(), max_retries=0)
ANTHROPIC: Final = anthropic.Anthropic(api_key="none", http_client=offline2(), max_retries=0)
GEMINI: Final = genai.Client(
    api_key="none",
    vertexai=False,
    http_options=genai.types.HttpOptions(httpx_client=offline2()),
)
COHERE: Final = cohere.ClientV2(
    api_key="none", httpx_client=httpx.Client(transport=httpx.MockTransport(answer))
)
MISTRAL: Final = mistralai.client.Mistral(api_key="none", client=offline2())
OLLAMA: Final = ollama.Client("http://ollama", transport=httpx.MockTransport(answer))


# Reading to the end, or until the client raises.


class Model(Protocol):
    """A model of an SDK that Stainless generates."""

    def to_dict(self, *, mode: Any, warnings: bool) -> dict[str, Any]: ...


def plain(model: Model) -> Event:
    """Return the fields that were set, unconverted."""
    return model.to_dict(mode="python", warnings=False)


def until_raised(events: Iterable[Event]) -> tuple[list[Event], list[object]]:
    read: list[Event] = []
    try:
        for event in events:
            read.append(event)  # noqa: PERF402 - events before the exception are kept
    except Exception as error:  # noqa: BLE001 - the exception is the result
        return read, [raised(error)]
    return read, []


def raised(error: Exception) -> tuple[str, str, str]:
    """Describe an exception, without positions in a text, which change when deltas are joined."""
    message = re.sub(r"line \d+ column \d+( \(char \d+\))?|0x[0-9a-f]+", "…", str(error))
    return "raised", type(error).__name__, message


def outcome(read: Callable[[], Model], so_far: Callable[[], Model]) -> object:
    """Return what `read` returns; or the exception that it raises, and the result so far."""
    try:
        return plain(read())
    except Exception as error:  # noqa: BLE001 - the exception is the result
        try:
            return (*raised(error), plain(so_far()))
        except AssertionError:  # the SDK raises it if there is no result yet
            return (*raised(error), None)


# The clients.


def chat_events() -> Iterator[Event]:
    stream = OPENAI.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}], stream=True
    )
    yield from map(plain, stream)


def chat_results() -> Mapping[str, object]:
    with OPENAI.chat.completions.stream(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}]
    ) as stream:
        completion = outcome(
            stream.get_final_completion, lambda: stream.current_completion_snapshot
        )
    return {"completion": without_repeated_roles(completion)}


def without_repeated_roles(value: object, name: str = "") -> object:
    """Undo what the SDK does to a role that a server repeats: it becomes "assistantassistant"."""
    if isinstance(value, dict):
        return {key: without_repeated_roles(item, key) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(without_repeated_roles(item) for item in value)
    if isinstance(value, str) and name in {"role", "channel"}:
        return re.sub(r"(.{3,}?)\1+", r"\1", value)
    return value


def responses_events() -> Iterator[Event]:
    yield from map(plain, OPENAI.responses.create(model=MODEL, input=QUESTION, stream=True))


def responses_results() -> Mapping[str, object]:
    """Return the final response, which the server sends whole, and the snapshots of the SDK."""
    snapshots: dict[str, str] = {}

    with OPENAI.responses.stream(model=MODEL, input=QUESTION) as stream:

        def read() -> Model:
            for event in stream:
                if event.type == "response.output_text.delta":
                    snapshots[f"{event.item_id} {event.content_index}"] = event.snapshot
                elif event.type == "response.function_call_arguments.delta":
                    snapshots[event.item_id] = event.snapshot
            return stream.get_final_response()

        return {"response": outcome(read, nothing), "snapshots": snapshots}


def nothing() -> Model:
    raise AssertionError("a Responses stream has no response before the final one")


def anthropic_events() -> Iterator[Event]:
    stream = ANTHROPIC.messages.create(
        model=MODEL,
        max_tokens=100,
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
    )
    yield from map(plain, stream)


def anthropic_results() -> Mapping[str, object]:
    """Return the results of both helpers. The beta helper knows more kinds of blocks and deltas."""
    with ANTHROPIC.messages.stream(
        model=MODEL, max_tokens=100, messages=[{"role": "user", "content": QUESTION}]
    ) as stream:
        message = outcome(stream.get_final_message, lambda: stream.current_message_snapshot)
    with ANTHROPIC.beta.messages.stream(
        model=MODEL, max_tokens=100, messages=[{"role": "user", "content": QUESTION}]
    ) as beta:
        beta_message = outcome(beta.get_final_message, lambda: beta.current_message_snapshot)
    return {"message": message, "beta message": beta_message}


def gemini_events() -> Iterator[Event]:
    for chunk in GEMINI.models.generate_content_stream(model=MODEL, contents=QUESTION):
        yield chunk.model_dump(exclude_unset=True, exclude={"sdk_http_response"})


def cohere_events() -> Iterator[Event]:
    question = cohere.UserChatMessageV2(content=QUESTION)
    for event in COHERE.chat_stream(model=MODEL, messages=[question]):
        yield event.dict()


def mistral_events() -> Iterator[Event]:
    question = mistralai.client.models.UserMessage(content=QUESTION)
    with MISTRAL.chat.stream(model=MODEL, messages=[question]) as stream:
        for event in stream:
            yield event.model_dump(exclude_unset=True)


def ollama_events() -> Iterator[Event]:
    """Read the stream as the answer of its endpoint, which the first line shows."""
    first_line = SERVED.get().partition(b"\n")[0]
    parts: Iterable[ollama.ChatResponse | ollama.GenerateResponse]
    if b'"response"' in first_line:
        parts = OLLAMA.generate(model=MODEL, prompt=QUESTION, stream=True)
    else:
        parts = OLLAMA.chat(
            model=MODEL, messages=[{"role": "user", "content": QUESTION}], stream=True
        )
    for part in parts:
        yield part.model_dump(exclude_unset=True)


READERS: Final[Mapping[str, Reader]] = {
    "openai-chat": Reader(chat_events, shapes.CHAT, chat_results),
    "openai-responses": Reader(responses_events, shapes.RESPONSES, responses_results),
    "anthropic-messages": Reader(anthropic_events, shapes.ANTHROPIC, anthropic_results),
    "gemini": Reader(gemini_events, shapes.GEMINI),
    "cohere": Reader(cohere_events, shapes.COHERE),
    "mistral": Reader(mistral_events, shapes.MISTRAL),
    "ollama": Reader(ollama_events, shapes.OLLAMA),
}
