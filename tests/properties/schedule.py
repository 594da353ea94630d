"""Schedules: what the app, the client and the server of a generated request do, and when.

A schedule is decoded from a few bytes, which Hypothesis draws thousands of times a second. Bytes
that are 0 or missing stand for the plainest choice, so that Hypothesis can shrink a schedule.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, TypeVar

from hypothesis import HealthCheck, Phase, given, settings, strategies as st

T = TypeVar("T")
Test: TypeAlias = Callable[..., Any]

UNIT: Final = 1 / 64
"""The unit of all times, in seconds. Its multiples are exact in binary, and often coincide."""

DELAY: Final = 16 * UNIT
SEND_TIMEOUT: Final = 2.0
MOST_CHUNKS: Final = 200
"""The largest number of chunks in a schedule: each chunk needs its own letter."""

Kind = Literal["chunk", "pause", "flush", "delay", "batching", "ask", "wait", "timeout"]
End = Literal["last", "raise", "return"]
FaultKind = Literal["leave", "cancel", "cancel-scope", "fail", "refuse", "stall"]


@dataclass(frozen=True)
class Step:
    """One thing that a task of the app does.

    - `chunk`: send so many bytes.
    - `pause`: sleep so many seconds. 0: yield for one loop iteration.
    - `flush`: await the delivery of all chunks.
    - `delay`, `batching`: set `max_delay` or `enabled` with `configure`.
    - `ask`: ask for the token.
    - `wait`: wait so many seconds for the token's cancellation.
    - `timeout`: cancel the next `send` or `flush` if it takes longer than so many seconds.
    """

    kind: Kind
    value: float = 0


@dataclass(frozen=True)
class Fault:
    """How the request ends early.

    - `leave`, `cancel`, `cancel-scope`: `at` is the time at which the client leaves, or the server
      cancels the request's task or the scope around the request.
    - `fail`, `refuse`, `stall`: `at` is the number of the write that fails with an `OSError`, fails
      with another error, or never ends. The writes after a `fail` fail as well.
    """

    kind: FaultKind
    at: float


@dataclass(frozen=True)
class Schedule:
    """One request, from beginning to end."""

    producers: tuple[tuple[Step, ...], ...] = ()
    """The steps of each task of the app. A single producer runs in the task of the request."""
    writes: tuple[float | None, ...] = (None,)
    """Seconds that each write takes, repeated. None: the server's `send` does not suspend."""
    end: End = "last"
    last_size: int = 0
    linger: float = 0
    """Seconds that the app runs on after its last message."""
    faults: tuple[Fault, ...] = ()
    asks: bool = False
    listens: bool = False
    """Whether a task of the app waits in `receive` for the disconnect."""
    stubborn: bool = False
    """Whether the app continues after its `send` has raised `ClientDisconnected`."""
    repeat_disconnect: bool = True
    upload: tuple[tuple[float, int], ...] = ()
    """The parts of the request body: seconds since the previous part, and size in bytes."""
    reads: tuple[float, ...] = ()
    """Seconds that the app sleeps before it reads each part. After the last part it `listens`."""
    report_time: float = 0
    """Seconds that `on_close` takes. 0: `on_close` is not a coroutine function."""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def max_batch_bytes(self) -> int:
        size: int = self.options.get("max_batch_bytes", 65_536)
        return size

    @property
    def send_timeout(self) -> float | None:
        timeout: float | None = self.options.get("send_timeout", 30.0)
        return timeout


class Choices:
    """Decode a sequence of decisions from bytes, one byte for each."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._next = 0

    def number(self, below: int) -> int:
        if self._next >= len(self._data):
            return 0
        self._next += 1
        return self._data[self._next - 1] % below

    def of(self, options: Sequence[T]) -> T:
        return options[self.number(len(options))]

    def some(self, most: int, make: Callable[[], T]) -> tuple[T, ...]:
        return tuple([make() for _ in range(self.number(most + 1))])


SIZES: Final = (1, 3, 0, 7, 9, 10, 11, 40, 100, 101, 250)
PAUSES: Final = tuple(n * UNIT for n in (1, 0, 4, 15, 16, 17, 32, 64))
WRITES: Final = (None, 0.0, UNIT, 15 * UNIT, 16 * UNIT, 17 * UNIT, 1.0)
DELAYS: Final = (DELAY, 0.0, UNIT, 1.0)
FREQUENT: Final[tuple[Kind, ...]] = ("chunk", "pause")
RARE: Final[tuple[Kind, ...]] = ("flush", "delay", "batching", "ask")
STEPS: Final = 6 * FREQUENT + RARE
FAULTS: Final[tuple[FaultKind, ...]] = (
    "leave",
    "fail",
    "cancel",
    "cancel-scope",
    "stall",
    "refuse",
)


class Decoder(Choices):
    """Decode a schedule. The parts of it in `without` keep their defaults."""

    def __init__(self, data: bytes, without: frozenset[str]) -> None:
        super().__init__(data)
        self._without = without

    def schedule(self) -> Schedule:
        producers = 1 if "producers" in self._without else 1 + max(0, self.number(5) - 2)
        found = Schedule(
            producers=tuple([self.steps(12 // producers) for _ in range(producers)]),
            writes=self.some(3, lambda: self.of(WRITES)) or (None,),
            end=self.unless("end", ("last", "last", "raise", "return")),
            last_size=self.of((0, 5)),
            linger=self.unless("linger", (0.0, 1.0)),
            faults=() if "faults" in self._without else self.faults(),
            asks=self.of((False, True)),
            listens=self.unless("listens", (False, True)),
            stubborn=self.unless("stubborn", (False, True)),
            repeat_disconnect=self.of((True, False)),
            upload=() if "upload" in self._without else self.some(4, self.part),
            options=self.options(),
        )
        if found.upload and found.listens:
            return Schedule(**{**vars(found), "reads": self.some(4, lambda: self.of(PAUSES))})
        return found

    def unless(self, name: str, options: Sequence[T]) -> T:
        return options[0] if name in self._without else self.of(options)

    def steps(self, most: int) -> tuple[Step, ...]:
        """Return arbitrary steps, or a steady stream of chunks followed by a long pause."""
        if self.number(4) < 3:
            return self.some(most, self.step)
        chunk, pause = Step("chunk", self.of(SIZES)), Step("pause", self.of(PAUSES))
        return (chunk, pause) * (2 + self.number(most)) + (Step("pause", self.of((1.0, 0.0))),)

    def step(self) -> Step:
        kind = self.of(STEPS)
        if kind in self._without:
            kind = "chunk"
        if kind == "chunk":
            if "timeout" not in self._without and self.number(16) == 15:
                return Step("timeout", self.of((0.0, UNIT, DELAY)))
            return Step(kind, self.of(SIZES))
        if kind == "pause":
            return Step(kind, self.of(PAUSES))
        if kind == "delay":
            return Step(kind, self.of(DELAYS))
        return Step(kind, self.number(2) if kind == "batching" else 0)

    def faults(self) -> tuple[Fault, ...]:
        return tuple([f for f in self.some(2, self.fault) if f.kind not in self._without])

    def fault(self) -> Fault:
        kind = self.of(FAULTS)
        if kind in {"fail", "refuse", "stall"}:
            return Fault(kind, self.number(8))
        return Fault(kind, self.number(160) * UNIT)

    def part(self) -> tuple[float, int]:
        return self.of(PAUSES), self.of((*SIZES, 40_000, 70_000))

    def options(self) -> dict[str, Any]:
        found = {
            "max_delay": self.of(DELAYS),
            "max_batch_bytes": self.of((100, 10, 1, 65_536)),
            "send_timeout": self.of((SEND_TIMEOUT, None, 30.0)),
            "grace_period": self.of((0.5, 0.0, 5.0)),
            "record_bytes": self.of((0, 7, 10_000)),
        }
        if "keepalive" not in self._without:
            found["keepalive_interval"] = self.of((None, 0.5, DELAY))
        return found


LENGTH: Final = 44
EXAMPLES: Final = int(os.environ.get("SSE_BATCHING_EXAMPLES", "0"))
"""The number of random schedules for each property. 0: a few hundred, the same in every run."""


def for_any_schedule(*without: str, examples: int = 200) -> Callable[[Test], Test]:
    """Call the test with many schedules. `without` names what none of the schedules contains: parts
    of a `Schedule`, kinds of a `Step` or of a `Fault`."""
    left_out = frozenset(without)
    schedules = st.binary(min_size=LENGTH, max_size=LENGTH).map(
        lambda data: Decoder(data, left_out).schedule()
    )

    def decorate(test: Test) -> Test:
        return tried(examples)(given(schedule=schedules)(test))

    return decorate


def tried(examples: int) -> settings:
    """Return settings with this number of examples, the same ones in every run of `make test`.

    `SSE_BATCHING_EXAMPLES` in the environment sets another number of examples, and random ones.
    """
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
