"""What a scenario and an interruption are, and the line that reproduces a case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

LoopName = Literal["asyncio", "eager", "trio"]

Sending = Literal["quick", "yields", "slow", "stalls", "rolls_back", "shields", "stubborn"]
"""What the server's `send` does with a chunk.

- `quick`: it returns without suspending.
- `yields`: it suspends for three loop iterations.
- `slow`: it takes 0.3 seconds.
- `stalls`: the second chunk is never taken.
- `rolls_back`: it takes 0.3 seconds, and has to clean up when it is cancelled.
- `shields`: it takes 0.3 seconds, and cannot be cancelled.
- `stubborn`: it takes 3 seconds, and cannot be cancelled: longer than the middleware waits.
"""

Asking = Literal["no", "asks", "task", "soon"]
"""Whether the app asks for its token, and what it registers.

- `asks`: nothing.
- `task`: `task.cancel` of the request's task; on trio, `cancel` of a scope of the app's.
- `soon`: the same by `call_soon_threadsafe`; on trio by `run_sync_soon`.
"""

Closing = Literal["sync", "async"]
"""Whether `on_close` is a coroutine function, which then waits for a few loop iterations."""

EventName = Literal["cancel", "timeout", "leave", "oserror", "runtimeerror", "stop"]
"""What interrupts the request.

- `cancel`: the server cancels the task of the request; on trio, the scope around the request.
- `timeout`: the time of an `asyncio.timeout` or `trio.fail_after` around the middleware is over.
- `leave`: the server's `receive` says `http.disconnect`.
- `oserror`, `runtimeerror`: the write in flight, or else the next one, raises this error.
- `stop`: somebody calls `token.cancel()`.
"""

OUTSIDE: Final[tuple[EventName, ...]] = ("cancel", "timeout")
"""The events that are cancellations from outside."""

EVENTS: Final[tuple[EventName, ...]] = get_args(EventName)
SENDINGS: Final[tuple[Sending, ...]] = get_args(Sending)
ASKINGS: Final[tuple[Asking, ...]] = get_args(Asking)
CLOSINGS: Final[tuple[Closing, ...]] = get_args(Closing)
GRACES: Final = (5, 0, 0.001)


@dataclass(frozen=True)
class Scenario:
    """One request as it is without an interruption."""

    loop: LoopName
    app: str
    sending: Sending = "quick"
    asking: Asking = "task"
    grace: float = 5
    closing: Closing = "sync"

    def __str__(self) -> str:
        return f"{self.loop} {self.app} {self.sending} {self.asking} {self.grace:g} {self.closing}"

    @property
    def events(self) -> tuple[EventName, ...]:
        """The events that can happen to this request."""
        return tuple(name for name in EVENTS if name != "stop" or self.asking != "no")


Interruptions: TypeAlias = tuple[tuple[EventName, int], ...]
"""Events, each with the number of the step before which it happens."""


@dataclass(frozen=True)
class Case:
    """A scenario and its interruptions. `str` is the line that `parse` takes."""

    scenario: Scenario
    events: Interruptions = ()

    def __str__(self) -> str:
        return " ".join([str(self.scenario), *(f"{name}@{step}" for name, step in self.events)])


def parse(line: str) -> Case:
    """Return the case with this `str`."""
    words = line.split()
    loop, app, sending, asking, grace, closing, *events = words
    scenario = Scenario(loop, app, sending, asking, float(grace), closing)  # type: ignore[arg-type]
    found = tuple((name, int(step)) for name, _, step in (word.partition("@") for word in events))
    return Case(scenario, found)  # type: ignore[arg-type]
