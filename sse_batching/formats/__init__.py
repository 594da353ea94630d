"""The formats whose text deltas can be merged, for the option `merge` of `SSEBatchingMiddleware`.

Give `merge` one of the formats, or a list of several. `auto` has the formats that `merge="auto"`
recognises. `DeltaFormat` describes JSON events of your own. `PlainText` is for events whose data is
bare text. docs/merging.md describes how to add a format.
"""

from typing import Final

from .._merging import Format
from .ag_ui import ag_ui
from .anthropic_messages import anthropic_messages
from .cohere_chat import cohere_chat
from .delta_format import DeltaFormat
from .gemini import gemini
from .ollama import ollama
from .openai_chat import openai_chat, openai_chat_repeated_role
from .openai_completions import openai_completions
from .openai_responses import openai_responses
from .plain_text import PlainText
from .vercel_ui import vercel_ui

auto: Final[tuple[Format, ...]] = (
    openai_chat,
    openai_responses,
    anthropic_messages,
    ag_ui,
    vercel_ui,
    gemini,
    cohere_chat,
    ollama,
    openai_completions,
)
"""The formats that `merge="auto"` recognises. No event is in two of them."""

__all__ = [
    "DeltaFormat",
    "Format",
    "PlainText",
    "ag_ui",
    "anthropic_messages",
    "auto",
    "cohere_chat",
    "gemini",
    "ollama",
    "openai_chat",
    "openai_chat_repeated_role",
    "openai_completions",
    "openai_responses",
    "vercel_ui",
]
