"""What a stream comes to for the official Python client of its format.

`final(format, body)` serves `body` to the client, without a network. The clients are the SDKs of
the providers, each with the transport that it lets its user choose.
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
    """One client."""

    events: Callable[[], Iterable[Event]]
    """What it hands out, one by one."""
    shape: Shape
    results: Callable[[], Mapping[str, object]] = dict
    """What it makes of all of them, if it has anything that does so."""


def final(format: str, body: bytes) -> Mapping[str, object]:
    """What the client ends up with: the same for streams that mean the same to it.

    `events`: what it hands out in order, adjacent deltas joined; the last is `("raised", the name
    of the exception, what it says)` if it raises. The other keys: what it accumulates by itself;
    of a stream that makes it raise, `("raised", name, message, what it had until then)`.
    """
    reader = READERS[format]
    token = SERVED.set(body)
    try:
        events, raised = until_raised(reader.events())
        result = {"events": [*joined(events, reader.shape), *raised], **reader.results()}
    finally:
        SERVED.reset(token)
    return {key: with_whole_characters(value) for key, value in result.items()}


# Serving. The SDKs are divided between httpx and its successor.


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


# Reading to the end, or to where the client raises.


class Model(Protocol):
    """A model of the SDKs that Stainless generates."""

    def to_dict(self, *, mode: Any, warnings: bool) -> dict[str, Any]: ...


def plain(model: Model) -> Event:
    """As it came: the fields that were set, none converted."""
    return model.to_dict(mode="python", warnings=False)


def until_raised(events: Iterable[Event]) -> tuple[list[Event], list[object]]:
    read: list[Event] = []
    try:
        for event in events:
            read.append(event)  # noqa: PERF402 - what was read before it raised is wanted
    except Exception as error:  # noqa: BLE001 - it is the result
        return read, [raised(error)]
    return read, []


def raised(error: Exception) -> tuple[str, str, str]:
    """Without the places in a text, which move when deltas are joined."""
    message = re.sub(r"line \d+ column \d+( \(char \d+\))?|0x[0-9a-f]+", "…", str(error))
    return "raised", type(error).__name__, message


def outcome(read: Callable[[], Model], so_far: Callable[[], Model]) -> object:
    """What `read` gives; or what it raises, and how far it had come."""
    try:
        return plain(read())
    except Exception as error:  # noqa: BLE001 - it is the result
        try:
            return (*raised(error), plain(so_far()))
        except AssertionError:  # so says the SDK that there is nothing yet
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
    """The SDK joins the roles of all chunks: "assistantassistant" where a server repeats it."""
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
    """The server sends the final response whole, so what the SDK joins is beside it."""
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
    raise AssertionError("a Responses stream shows no response before the final one")


def anthropic_events() -> Iterator[Event]:
    stream = ANTHROPIC.messages.create(
        model=MODEL,
        max_tokens=100,
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
    )
    yield from map(plain, stream)


def anthropic_results() -> Mapping[str, object]:
    """By both helpers: the beta one knows more kinds of blocks and deltas."""
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
    """From the endpoint whose answer it is, by its first line."""
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
