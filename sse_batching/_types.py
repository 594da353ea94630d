"""The ASGI types, and the names of ASGI that more than one module needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from asgiref.typing import ASGI3Application
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = [
    "BODY",
    "SCOPE_KEY",
    "START",
    "ASGI3Application",
    "ASGIApp",
    "Message",
    "Predicate",
    "Receive",
    "Scope",
    "Send",
]

Predicate: TypeAlias = Callable[[Scope], bool]

START: Final = "http.response.start"
BODY: Final = "http.response.body"

SCOPE_KEY: Final = "sse_batching.stream"
"""The key of a scope under which `get_token` finds the request."""
