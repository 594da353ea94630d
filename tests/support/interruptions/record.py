"""What happened in one case."""

from __future__ import annotations

from dataclasses import dataclass, field

from sse_batching import CancellationToken, StreamReport

from .case import EventName


@dataclass(repr=False)
class Sent:
    """One call of the app's `send`."""

    body: bytes
    starts: bool
    first_step: int
    last_step: int | None = None
    error: BaseException | None = None

    def __repr__(self) -> str:
        return f"{self.body[:4]!r}({self.first_step}-{self.last_step} {self.error or ''!r})"

    @property
    def returned(self) -> bool:
        return self.last_step is not None and self.error is None


@dataclass
class Record:
    """What happened in one case, in steps. None: it did not happen."""

    happened: list[tuple[EventName, int]] = field(default_factory=list)
    """The events that came before the middleware had returned. A `timeout` counts from the step in
    which the task is cancelled."""

    # The app.
    token: CancellationToken | None = None
    app_started: bool = False
    app_ended: int | None = None
    app_error: BaseException | None = None
    swallowed: list[int] = field(default_factory=list)
    """Steps in which the app has caught a cancellation and gone on."""
    sends: list[Sent] = field(default_factory=list)

    # The server.
    delivered: list[bytes] = field(default_factory=list)
    """The bodies of the writes that the server has taken."""
    ended_well: bool = False
    """True once the server has taken the last message."""
    write_errors: list[BaseException] = field(default_factory=list)
    in_send: int = 0
    """How many calls of the server's `send` have not ended."""
    aborted: int = 0
    """How many cancellations a `send` that cannot be cancelled has ignored."""

    # The middleware.
    returned: int | None = None
    error: BaseException | None = None
    """What the middleware raised."""
    left: list[str] = field(default_factory=list)
    """Tasks and timers that were left when the middleware had returned."""
    left_later: list[str] = field(default_factory=list)
    """The same half a minute later."""
    reports: list[StreamReport] = field(default_factory=list)
    delivered_at_report: bytes = b""

    # Around the middleware.
    outcome: BaseException | None = None
    """What came out of the time limit around the middleware."""
    cancelling: int = 0
    """asyncio: cancellations of the task that nobody has undone."""
    scopes: tuple[bool, bool] = (False, False)
    """trio: whether the server's scope and the one of the time limit have caught a cancellation."""
    cancelled_later: bool = False
    """Whether the server's code after the middleware was cancelled."""
    complaints: list[str] = field(default_factory=list)
    """What the exception handler of the loop was told, and warnings and errors in the log."""
    hangs: str | None = None

    def count(self, *names: str) -> int:
        """Return how many of these events there were."""
        return sum(1 for name, _ in self.happened if name in names)
