"""A record of the messages between an app and its server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import anyio

from .._types import ASGIApp, Message, Receive, Scope, Send


@dataclass(slots=True)
class Recorded:
    """A message of the app or of the server."""

    at: float
    """When `send` was called, or `receive` returned: seconds since the app was called."""
    by: Literal["app", "server"]
    """Which side the message came from."""
    message: Message
    """A shallow copy, made at that time."""
    taken_at: float | None = None
    """When the server's `send` returned, in the same seconds. None if it has not."""
    error: BaseException | None = None
    """The exception that the server's `send` raised, also a cancellation."""

    def __str__(self) -> str:
        details = [f"{key}={value!r}" for key, value in self.message.items() if key != "type"]
        arrow = "->" if self.by == "app" else "<-"
        failed = f" !! {self.error!r}" if self.error is not None else ""
        return f"{self.at:9.3f} {arrow} {self.message['type']} {' '.join(details)}{failed}".rstrip()


@dataclass(slots=True)
class Recording:
    """One call of the app. Its string has one line for each message."""

    scope: Scope
    """The scope that the app was called with, not a copy."""
    messages: list[Recorded] = field(default_factory=list)
    """The messages of both sides, in the order of `at`."""
    error: BaseException | None = None
    """The exception that the app raised, also a cancellation."""
    ended: bool = False
    """True once the app has returned or raised."""

    @property
    def sent(self) -> list[Message]:
        """The messages that the app sent, whether the server took them or not."""
        return [recorded.message for recorded in self.messages if recorded.by == "app"]

    @property
    def received(self) -> list[Message]:
        """The messages that the app received."""
        return [recorded.message for recorded in self.messages if recorded.by == "server"]

    def __str__(self) -> str:
        return "\n".join(str(recorded) for recorded in self.messages)


class Recorder:
    """ASGI middleware that records each call of the app, and changes nothing.

        app = Recorder(SSEBatchingMiddleware(Recorder(inner)))

    records both sides of the middleware. A recorder works around any app, on any server, for all
    types of scope, and for any number of requests at the same time. All times are seconds on the
    clock of the event loop.

    *Not guaranteed*: a bound on memory. The recordings, with all bodies, are kept as long as the
    recorder.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.recordings: list[Recording] = []
        """One recording for each call of the app, in the order of the calls."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app, and record what it sends and receives."""
        began = anyio.current_time()
        recording = Recording(scope)
        self.recordings.append(recording)

        async def recorded_receive() -> Message:
            message = await receive()
            at = anyio.current_time() - began
            recording.messages.append(Recorded(at, "server", dict(message)))
            return message

        async def recorded_send(message: Message) -> None:
            recorded = Recorded(anyio.current_time() - began, "app", dict(message))
            recording.messages.append(recorded)
            try:
                await send(message)
            except BaseException as error:
                recorded.error = error
                raise
            recorded.taken_at = anyio.current_time() - began

        try:
            await self.app(scope, recorded_receive, recorded_send)
        except BaseException as error:
            recording.error = error
            raise
        finally:
            recording.ended = True
