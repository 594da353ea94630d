"""The ASGI types in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from asgiref.typing import ASGI3Application
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = [
    "SCOPE_KEY",
    "ASGI3Application",
    "ASGIApp",
    "Message",
    "Predicate",
    "Receive",
    "Scope",
    "Send",
]

Predicate: TypeAlias = Callable[[Scope], bool]

SCOPE_KEY: Final = "sse_batching.stream"
"""Where a scope keeps its stream, for code that the context variable does not reach."""
