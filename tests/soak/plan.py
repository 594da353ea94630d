"""Plans: what each client of the soak asks for, and what it does then.

A plan depends only on the seed and on the client's number, so any client can be run again.
"""

from __future__ import annotations

import dataclasses
import zlib
from dataclasses import dataclass
from enum import StrEnum, auto
from random import Random
from typing import Final
from urllib.parse import parse_qsl, urlencode

STREAMS: Final = (
    "silent",
    "obeys",
    "ignores",
    "linked",
    "thread",
    "upload",
    "fastapi",
    "fastapi-sse",
    "raw",
    "raw-silent",
)
"""The apps of `tests.soak.app` that stream, named after what they do with their token."""

NEVER_ASK: Final = frozenset({"silent", "raw-silent"})
FLOODING: Final = ("silent", "obeys", "ignores", "raw", "raw-silent")

ENDLESS: Final = -1
FLOOD_SIZE: Final = 65_536
"""Bytes of an event of a flood. A write waits only after some megabytes of events."""


class Point(StrEnum):
    """The point at which a client leaves."""

    NEVER = auto()
    BEFORE_START = auto()
    IN_UPLOAD = auto()
    BEFORE_FIRST = auto()
    MIDDLE = auto()
    LAST_WRITE = auto()
    """Shortly before or after the last write. The stream may be incomplete, or completed if the
    whole answer was already on its way."""
    STALLED = auto()
    """The client stops reading, and leaves only when the server has closed the stream."""


EARLY: Final = frozenset({Point.BEFORE_START, Point.IN_UPLOAD, Point.BEFORE_FIRST})


class Way(StrEnum):
    """The way in which a client leaves."""

    FIN = auto()
    RST = auto()
    HALF_CLOSE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The answer that a client asks the app for. Times are in seconds, sizes in bytes."""

    number: int
    app: str
    events: int
    """The number of events. `ENDLESS`: until the app is stopped."""
    size: int
    pace: float
    """The time between two events."""
    before: float
    """The time before the response starts."""
    first: float
    """The time from the start of the response to the first event."""
    upload: int = 0

    def target(self) -> str:
        return f"/{self.app}?{urlencode(dataclasses.asdict(self))}"

    @staticmethod
    def parse(query: bytes) -> Order:
        values = dict(parse_qsl(query.decode()))
        names = {field.name: field.type for field in dataclasses.fields(Order)}
        make = {"int": int, "float": float, "str": str}
        return Order(**{name: make[str(kind)](values[name]) for name, kind in names.items()})

    def text(self, number: int) -> str:
        """Return the text of an event."""
        head = f"{self.number}.{number} "
        return head + "x" * (self.size - len(head))

    def event(self, number: int) -> bytes:
        return b"data: %s\n\n" % self.text(number).encode()

    def body(self, length: int) -> bytes:
        """Return the complete expected body. Of an endless body, return at least so many bytes."""
        if self.app == "waits":
            return b'{"number":%d}' % self.number
        parts = [b"data: %d\n\n" % zlib.crc32(self.sent())] if self.upload else []
        size = number = 0
        while number != self.events and (self.events != ENDLESS or size < length):
            parts.append(self.event(number))
            size += len(parts[-1])
            number += 1
        return b"".join(parts)

    def sent(self) -> bytes:
        """Return the body of the request."""
        return bytes(range(256)) * (self.upload // 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that one client does."""

    order: Order
    point: Point
    way: Way
    reads: int
    """Bytes of the body that the client reads before it pauses and then leaves."""
    pause: float
    """Seconds of that pause."""

    @property
    def leaves(self) -> bool:
        return self.point is not Point.NEVER


def draw(seed: int, number: int) -> Plan:
    """Draw the plan of this client. Every other client leaves."""
    random = Random(f"{seed}.{number}")
    point = Point.NEVER if random.random() < 0.5 else _point(random)
    app = random.choice(STREAMS) if random.random() < 0.9 else "waits"
    flood = point is Point.STALLED or random.random() < 0.01
    if point is Point.IN_UPLOAD:
        app = "upload"
    elif point in (Point.STALLED, Point.LAST_WRITE, Point.BEFORE_FIRST) and app == "waits":
        app = "obeys"
    if flood and point is not Point.IN_UPLOAD:
        app = random.choice(FLOODING)
    if app == "waits" and point is not Point.NEVER:
        point = Point.BEFORE_START
    endless = point not in (Point.NEVER, Point.LAST_WRITE)
    order = Order(
        number=number,
        app=app,
        events=ENDLESS if endless else random.randint(20, 100) if flood else random.randint(1, 30),
        size=FLOOD_SIZE if flood else random.randint(16, 400),
        pace=_pace(random, flood, endless),
        before=_before(random, app, point),
        first=round(random.uniform(0.02, 0.1), 3) if point is Point.BEFORE_FIRST else 0.0,
        upload=random.choice((1, 100, 1_000)) * 256 if app == "upload" else 0,
    )
    return Plan(
        order=order,
        point=point,
        way=random.choice(list(Way)),
        reads=_reads(random, order, point),
        pause=_pause(random, order, point),
    )


def _point(random: Random) -> Point:
    weights = {
        Point.BEFORE_START: 15,
        Point.IN_UPLOAD: 5,
        Point.BEFORE_FIRST: 15,
        Point.MIDDLE: 50,
        Point.LAST_WRITE: 14.5,
        Point.STALLED: 0.5,
    }
    return random.choices(list(weights), list(weights.values()))[0]


def _pace(random: Random, flood: bool, endless: bool) -> float:
    if flood or random.random() < (0.02 if endless else 0.3):
        return 0.0
    return random.choice((0.001, 0.01, 0.02))


def _before(random: Random, app: str, point: Point) -> float:
    if app == "waits":
        return 60.0 if point is not Point.NEVER else round(random.uniform(0, 0.05), 3)
    if point is Point.BEFORE_START or random.random() < 0.2:
        return round(random.uniform(0, 0.1), 3)
    return 0.0


def _reads(random: Random, order: Order, point: Point) -> int:
    if order.app == "waits" or point in EARLY:
        return 0
    event = len(order.event(0))
    if order.events == ENDLESS:
        return random.randint(1, 10 * event)
    length = len(order.body(0))
    if point is Point.LAST_WRITE:
        return max(0, length - random.randint(0, 3 * event))
    return random.randint(0, length)


def _pause(random: Random, order: Order, point: Point) -> float:
    if point is Point.LAST_WRITE:
        return round(random.uniform(0, 3 * order.pace + 0.06), 3)
    if point in EARLY:
        return round(random.choice((0.0, random.uniform(0, 0.05))), 3)
    if order.app != "waits" and (order.size == FLOOD_SIZE or random.random() < 0.2):
        return round(random.uniform(0.05, 0.3), 3)
    return 0.0
