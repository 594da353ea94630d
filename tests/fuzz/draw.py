"""Draw a plan from a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Final, TypeVar

from tests.fuzz.plan import (
    App,
    Arrival,
    Fate,
    Pending,
    Plan,
    Producer,
    Request,
    Server,
    Settings,
    Step,
    Write,
)

T = TypeVar("T")

PAUSES: Final = (0.0, 0.0, 0.0, 0.001, 0.01, 0.025, 0.05, 0.05, 0.1, 0.3, 1.0)
"""Seconds. Few different ones, so that many things happen at the same time."""

LONG: Final = (2.0, 5.0, 35.0)
ENDINGS: Final = (b"\n", b"\n", b"\n", b"\r\n", b"\r")


class Draw:
    """Random choices for one plan."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.number = 0

    def often(self, probability: float) -> bool:
        return self.rng.random() < probability

    def of(self, *choices: T) -> T:
        return choices[self.rng.randrange(len(choices))]

    def pause(self) -> float:
        return self.of(*LONG) if self.often(0.03) else self.of(*PAUSES)

    def when(self) -> float:
        """Return a time at which something happens from outside: a sum of pauses."""
        return round(sum(self.of(*PAUSES) for _ in range(self.rng.randrange(1, 5))), 6)

    def turns(self) -> int:
        return self.rng.randrange(6) if self.often(0.4) else 0


def draw(seed: int, loop: str) -> Plan:
    """Return the plan of a seed."""
    d = Draw(seed)
    merge = d.of("auto", "delta", "plain") if d.often(0.2) else ""
    settings = _settings(d, merge)
    count = d.of(1, 1, 1, 1, 1, 2, 2, 3, 4)
    requests = tuple(_request(d, number, merge, loop) for number in range(count))
    gate: tuple[Pending, ...] = ()
    if any(request.server.gate for request in requests):
        opened = d.when()
        gate = (Pending(d.of(0.0, 0.0, opened / 2), opened),)
    ends = d.rng.random()
    return Plan(
        seed=seed,
        loop=loop,
        shuffled=d.often(0.4),
        settings=settings,
        requests=requests,
        gate=gate,
        cancel_all=d.when() if ends < 0.02 and loop == "asyncio" else None,
        close=d.when() if ends > 0.98 and loop == "asyncio" else None,
    )


def _settings(d: Draw, merge: str) -> Settings:
    return Settings(
        max_delay=d.of(0.0, 0.01, 0.05, 0.05, 0.1, 1.0),
        max_batch_bytes=d.of(1, 40, 100, 65_536, 65_536, 65_536),
        keepalive_interval=d.of(0.1, 1.0, 15.0) if d.often(0.25) else None,
        send_timeout=d.of(None, 0.05, 0.3, 1.0, 30.0),
        grace_period=d.of(0.0, 0.01, 0.3, 5.0, 5.0),
        record_bytes=d.of(0, 0, 10, 100_000),
        merge=merge,
        flush_on=d.often(0.1),
        on_close=d.of("", "", "async", "slow", "raises"),
    )


def _request(d: Draw, number: int, merge: str, loop: str) -> Request:
    fates: list[Fate] = []
    if d.often(0.5):
        fates.append(Fate("leave", d.when(), d.turns()))
    cancels = d.of(1, 1, 2) if d.often(0.3) else 0
    fates += [Fate("cancel", d.when(), d.turns()) for _ in range(cancels)]
    if len(fates) > 1 and d.often(0.4):  # at the same time, or nearly
        fates[-1] = Fate(fates[-1].do, fates[0].at, d.turns())
    return Request(
        app=_app(d, number, merge, loop),
        server=_server(d),
        fates=tuple(fates),
        begins=d.of(0.0, 0.0, d.pause()),
        enabled=not d.often(0.03),
        limit=d.when() + 0.01 if d.often(0.06) else None,
        scope=d.often(0.2),
    )


def _app(d: Draw, number: int, merge: str, loop: str) -> App:
    starlette = d.often(0.25)
    count = 1 if starlette or merge else d.of(1, 1, 1, 2, 3)
    events = _events(d, number, merge)
    return App(
        kind="starlette" if starlette else "raw",
        producers=tuple(_producer(d, events, first=n == 0, loop=loop) for n in range(count)),
        media_type="text/event-stream" if d.often(0.94) else "application/json",
        listener=d.of("", "", "stop", "note"),
        in_group=d.often(0.3),
        last=d.of("empty", "empty", "full", "none"),
        joins=d.often(0.9),
    )


def _producer(d: Draw, events: Callable[[], bytes], *, first: bool, loop: str) -> Producer:
    steps: list[Step] = []
    if first and d.often(0.5):
        steps.append(_step(d, "ask", name=d.of("context", "scope")))
        for _ in range(d.of(0, 1, 1, 2)):
            name = d.of("callback", "raises", "cancel_task", "cancel_task", "cancel_soon")
            if loop == "trio" and name.startswith("cancel"):
                name = "callback"
            steps.append(_step(d, "register", name=name))
    for _ in range(d.rng.randrange(9)):
        steps += _sends(d, events)
        if d.often(0.25):
            steps.append(_other(d, events))
    if d.often(0.06):
        steps.append(_step(d, "raise"))
    return Producer(
        tuple(steps),
        on_cancel=d.of("swallow", "cleanup", "raise") if d.often(0.3) else "",
        on_disconnect=d.of("go_on", "return", "raise") if d.often(0.3) else "",
    )


def _step(d: Draw, do: str, *, body: bytes = b"", number: float = 0.0, name: str = "") -> Step:
    wait = d.pause() if d.often(0.6) else 0.0
    return Step(do, wait, d.turns() if d.often(0.3) else 0, body, number, name)


def _sends(d: Draw, events: Callable[[], bytes]) -> list[Step]:
    """Return steps that send one event, or a few, in one chunk or in two."""
    body = b"".join(events() for _ in range(d.of(1, 1, 1, 2, 5)))
    name = d.of("", "", "", "", "bytearray", "memoryview")
    if d.often(0.8):
        return [_step(d, "send", body=body, name=name)]
    cut = d.rng.randrange(1, len(body))
    return [
        _step(d, "send", body=body[:cut], name=name),
        _step(d, "send", body=body[cut:], name=name),
    ]


def _other(d: Draw, events: Callable[[], bytes]) -> Step:
    do = d.of(
        "empty", "extra", "debug", "flush", "flush", "configure", "stop", "receive", "receive",
        "wait_token", "background", "sleep",
    )  # fmt: skip
    if do == "extra":
        return _step(d, do, body=events())
    if do == "background":
        return _step(d, do, body=events() if d.often(0.6) else b"", number=d.pause())
    if do == "configure":
        return _step(d, do, number=d.of(-1.0, 0.0, 0.01, 1.0), name=d.of("", "off", "on"))
    if do == "stop":
        if not d.often(0.3):
            return _step(d, "sleep")
        return _step(d, do, name=d.of("loop", "thread"))
    return _step(d, do, number=d.pause())


def _server(d: Draw) -> Server:
    writes = []
    if d.often(0.5):
        for number in range(d.of(2, 5, 20)):
            if d.often(0.5):
                seconds = d.pause() if d.often(0.6) else 0.0
                writes.append(Write(number, d.turns(), seconds))
    if d.often(0.15):
        number = d.rng.randrange(8)
        writes.append(Write(number, d.turns(), d.pause(), d.of("os", "os", "runtime")))
    arrivals: list[Arrival] = []
    for left in range(d.of(0, 0, 1, 3), 0, -1):
        at = (arrivals[-1].at if arrivals else 0.0) + d.pause()
        arrivals.append(Arrival(round(at, 6), d.of(0, 10, 70_000), left > 1))
    return Server(
        writes=tuple(sorted(writes, key=lambda write: write.number)),
        cancelled=d.of("waits_on", "returns", "cleans_up") if d.often(0.2) else "",
        var=d.often(0.2),
        gate=d.often(0.08),
        lock=d.often(0.08),
        arrivals=tuple(arrivals),
        repeats=d.often(0.7),
        says_complete=d.often(0.7),
        receive_fails=d.when() if d.often(0.03) else None,
        gone=d.of("ignores", "raises", "hangs"),
        spec_version=d.of("2.3", "2.4"),
    )


def _events(d: Draw, request: int, merge: str) -> Callable[[], bytes]:
    """Return a function that makes the next event of a request. Each has a tag of its own."""
    end = d.of(*ENDINGS)
    kind = merge if merge != "auto" else d.of("openai", "anthropic")
    with_ids = d.often(0.2)

    def event() -> bytes:
        d.number += 1
        tag = f"<{request}.{d.number}>"
        lines = _lines(d, kind, tag)
        if with_ids:
            lines.insert(0, f"id: {d.number}")
        return end.join(line.encode() for line in (*lines, "", ""))

    return event


def _lines(d: Draw, kind: str, tag: str) -> list[str]:
    text = tag + d.of("", " ", "x" * 30, '"', "\u4f60", "</b>")
    if kind == "" or d.often(0.1):
        name = [f"event: {d.of('done', 'note')}"] if d.often(0.2) else []
        return [*name, f"data: {text}", *(["data: more"] if d.often(0.1) else [])]
    if kind == "plain":
        return [f"data: {text}"]
    if kind == "delta":
        value: dict[str, object] = {"run": d.of(1, 1, 1, 2), "text": text, "at": d.number}
        return ["event: token", f"data: {json.dumps(value)}"]
    if kind == "anthropic":
        return _anthropic(d, text)
    delta = {"content": text} if d.often(0.9) else {"role": "assistant", "content": ""}
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": d.number, "choices": [choice]}
    return [f"data: {json.dumps(chunk)}"]


def _anthropic(d: Draw, text: str) -> list[str]:
    if d.often(0.1):
        value: dict[str, object] = {"type": "message_start", "message": {"id": text}}
    elif d.often(0.1):
        value = {"type": "ping"}
    else:
        delta = {"type": "text_delta", "text": text}
        value = {"type": "content_block_delta", "index": d.of(0, 0, 0, 1), "delta": delta}
    return [f"event: {value['type']}", f"data: {json.dumps(value)}"]
