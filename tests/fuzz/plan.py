"""What one run does: the options, the requests, their apps, their servers and their fates.

Every object is immutable, and every field but the first ones has the default of a run in which
nothing happens. So `repr` of a plan is short, and `shrink.py` makes a plan simpler without knowing
what its fields mean.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


class Compact:
    """Mix-in of a dataclass whose `repr` leaves out each field that has its default."""

    def __repr__(self) -> str:
        shown = []
        for item in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if value != default_of(item):
                shown.append(f"{item.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


def default_of(item: dataclasses.Field[Any]) -> Any:
    """Return the default of a field; `dataclasses.MISSING` if it has none."""
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default


@dataclass(frozen=True, repr=False)
class Step(Compact):
    """One step of a producer's program. `app.py` has a method for each value of `do`."""

    do: str
    wait: float = 0.0
    """Seconds before the step."""
    turns: int = 0
    """Iterations of the event loop before the step."""
    body: bytes = b""
    number: float = 0.0
    name: str = ""


@dataclass(frozen=True, repr=False)
class Producer(Compact):
    """One task of an app that sends. The first producer of an app runs in the request's task."""

    steps: tuple[Step, ...] = ()
    on_cancel: str = ""
    """`swallow`: go on with the next step, once. `cleanup`: wait 10 ms. `raise`: an error of the
    app's own."""
    on_disconnect: str = ""
    """`go_on`: with the next step. `return`. `raise`: an error of the app's own."""


@dataclass(frozen=True, repr=False)
class App(Compact):
    """The app of one request."""

    kind: str = "raw"
    """`raw`: calls `send` itself. `starlette`: the first producer is the generator of a
    StreamingResponse."""
    producers: tuple[Producer, ...] = ()
    media_type: str = "text/event-stream"
    listener: str = ""
    """What a task does that waits in `receive` for the disconnect. `stop`: cancel the producers.
    `note`: nothing."""
    in_group: bool = False
    """True: the producers run in a task group of anyio. False: in tasks of their own."""
    last: str = "empty"
    """The body of the last message: `empty` or `full`. `none`: there is no last message."""
    joins: bool = True
    """False: the last message does not wait for the other producers."""


@dataclass(frozen=True, repr=False)
class Write(Compact):
    """How the server takes one message. The first message has the number 0."""

    number: int
    turns: int = 0
    seconds: float = 0.0
    fails: str = ""
    """`os`: OSError. `runtime`: RuntimeError."""


@dataclass(frozen=True, repr=False)
class Arrival(Compact):
    """A part of the request body."""

    at: float
    size: int = 0
    more: bool = True


@dataclass(frozen=True, repr=False)
class Fate(Compact):
    """What happens to a request from outside."""

    do: str
    """`leave`: the client leaves. `cancel`: the server cancels the request's task."""
    at: float
    turns: int = 0


@dataclass(frozen=True, repr=False)
class Server(Compact):
    """The server of one request, with its client."""

    writes: tuple[Write, ...] = ()
    cancelled: str = ""
    """What a `send` does that is cancelled while it waits. `waits_on`: it cannot be cancelled, and
    raises when it has waited. `returns`: the same, but it returns. `cleans_up`: waits 10 ms."""
    var: bool = False
    """True: a middleware outside sets a context variable for the time of each `send`."""
    gate: bool = False
    """True: each `send` waits for a future that all requests of the run share."""
    lock: bool = False
    """True: each `send` holds a lock that all requests of the run share."""
    arrivals: tuple[Arrival, ...] = ()
    repeats: bool = True
    """True: `http.disconnect` is said again in each `receive`."""
    says_complete: bool = True
    """True: `receive` says `http.disconnect` when the response is complete."""
    receive_fails: float | None = None
    gone: str = "ignores"
    """What `send` does after the client has left: `ignores`, `raises` or `hangs`."""
    spec_version: str = "2.3"


@dataclass(frozen=True, repr=False)
class Request(Compact):
    """One request."""

    app: App
    server: Server = Server()
    fates: tuple[Fate, ...] = ()
    begins: float = 0.0
    enabled: bool = True
    limit: float | None = None
    """The seconds of an `asyncio.timeout` around the middleware; on trio `move_on_after`."""
    scope: bool = False
    """True: `cancel` cancels a scope of anyio's around the middleware."""


@dataclass(frozen=True, repr=False)
class Settings(Compact):
    """The options of the middleware."""

    max_delay: float = 0.05
    max_batch_bytes: int = 65_536
    keepalive_interval: float | None = None
    send_timeout: float | None = 30.0
    grace_period: float = 5.0
    record_bytes: int = 0
    merge: str = ""
    flush_on: bool = False
    on_close: str = ""
    """`async`: waits an iteration of the event loop. `slow`: waits 0.1 s. `raises`."""


@dataclass(frozen=True, repr=False)
class Pending(Compact):
    """A time in which the shared future is pending."""

    begins: float
    ends: float


@dataclass(frozen=True, repr=False)
class Plan(Compact):
    """One run."""

    seed: int
    loop: str
    """`asyncio` or `trio`."""
    shuffled: bool = False
    """True: what is ready runs in random order. (asyncio promises the order of `call_soon`.)"""
    settings: Settings = Settings()
    requests: tuple[Request, ...] = ()
    gate: tuple[Pending, ...] = ()
    """When the shared future is pending."""
    cancel_all: float | None = None
    """When every task of the event loop is cancelled."""
    close: float | None = None
    """When the event loop is closed, with requests in it."""
