"""What app and server say to each other, taken down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import anyio

from .._types import ASGIApp, Message, Receive, Scope, Send


@dataclass(slots=True)
class Recorded:
    """A message that passed, or was to pass."""

    at: float
    """When it was handed over: seconds from the call of the app, on the clock of the event loop."""
    by: Literal["app", "server"]
    """Who said it."""
    message: Message
    """A copy: what it was then."""
    taken_at: float | None = None
    """When the server's `send` returned; None as long as it has not."""
    error: BaseException | None = None
    """What the server's `send` raised."""

    def __str__(self) -> str:
        details = [f"{key}={value!r}" for key, value in self.message.items() if key != "type"]
        arrow = "->" if self.by == "app" else "<-"
        failed = f" !! {self.error!r}" if self.error is not None else ""
        return f"{self.at:9.3f} {arrow} {self.message['type']} {' '.join(details)}{failed}".rstrip()


@dataclass(slots=True)
class Recording:
    """One call of the app. As a string, one line a message."""

    scope: Scope
    """What the app was called with."""
    messages: list[Recorded] = field(default_factory=list)
    """In the order in which they were handed over, the app's and the server's."""
    error: BaseException | None = None
    """What left the app."""
    ended: bool = False
    """Whether the app has ended."""

    @property
    def sent(self) -> list[Message]:
        """What the app sent, whether or not the server took it."""
        return [recorded.message for recorded in self.messages if recorded.by == "app"]

    @property
    def received(self) -> list[Message]:
        """What the app was told."""
        return [recorded.message for recorded in self.messages if recorded.by == "server"]

    def __str__(self) -> str:
        return "\n".join(str(recorded) for recorded in self.messages)


class Recorder:
    """An ASGI middleware that takes down each call of the app, and changes nothing.

        app = Recorder(SSEBatchingMiddleware(Recorder(inner)))

    has both sides of the middleware. Goes round any app, on any server, for all types of scope.
    The recordings are kept as long as the recorder is.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.recordings: list[Recording] = []
        """One for each call of the app, in the order of the calls."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app."""
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
