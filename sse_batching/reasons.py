"""The reasons of a cancellation."""

from __future__ import annotations

from enum import StrEnum


class CancelReason(StrEnum):
    """Why a token was cancelled. The middleware uses the first four, your own code the others."""

    CLIENT_DISCONNECTED = "client_disconnected"
    """The server said `http.disconnect` before the response was complete."""
    SEND_FAILED = "send_failed"
    """A write to the server raised."""
    SEND_TIMEOUT = "send_timeout"
    """A write took longer than `send_timeout`: the client has stopped reading."""
    SERVER_SHUTDOWN = "server_shutdown"
    """The server, or a middleware around this one, cancelled the request."""
    REQUESTED = "requested"
    """Your code asked for it: a stop button, another request."""
    DEADLINE = "deadline"
    """A time limit of your own ran out."""
