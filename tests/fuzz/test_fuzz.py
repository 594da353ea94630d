"""The short form of `make fuzz`, and the check that the rules see what is wrong."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

import pytest

from sse_batching import SSEBatchingMiddleware
from tests.fuzz.draw import draw
from tests.fuzz.oracle import judge, kind
from tests.fuzz.plan import App, Fate, Plan, Producer, Request, Server, Settings, Step, Write
from tests.fuzz.run import run
from tests.fuzz.shrink import shrink
from tests.support.servers import REPOSITORY

SHORT: Final = 250
"""Seeds of the short form, on each loop."""


@pytest.fixture(autouse=True)
def quick_garbage_collection() -> None:
    """Freeze what pytest holds: each run ends with a garbage collection, which would look at it."""
    gc.collect()
    gc.freeze()


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_random_requests_break_no_rule(loop: str) -> None:
    """Requests of the first seeds are served as the guarantees say, on a loop that runs what is
    ready in random order."""
    command = [sys.executable, "-c", CALL, loop, str(SHORT)]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=50, check=True
    )

    assert not done.stdout, "make fuzz SEED=... LOOP=... explains these:\n" + done.stdout


# In a process of its own: a run freezes the garbage collector, and turns off the package's log.
CALL: Final = """
import sys
from tests.fuzz.oracle import kind
from tests.fuzz.search import try_seeds
for loop, seed, fault in try_seeds(sys.argv[1], list(range(int(sys.argv[2])))):
    print(kind(fault), f"SEED={seed} LOOP={loop}", fault, sep="\\t")
"""


# A search that sees nothing would find nothing: each middleware below breaks one rule.

EVENT: Final = b"data: <1>\n\n"
CHUNKS: Final = tuple(Step("send", 0.01, body=b"data: <%d>\n\n" % n) for n in range(4))
STREAM: Final = Request(App(producers=(Producer(CHUNKS),)))
SLOW: Final = Request(
    App(
        producers=(
            Producer((*CHUNKS, Step("sleep", number=0.3), *CHUNKS, Step("sleep", number=5.0))),
        )
    )
)
LEFT: Final = Request(App(producers=(Producer(CHUNKS),)), fates=(Fate("leave", 0.015),))


class Faulty:
    """The middleware, with a `send` or a call that a subclass breaks."""

    def __init__(self, app: Any, **options: Any) -> None:
        self.inner = SSEBatchingMiddleware(app, **options)
        self.calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def broken(message: Any) -> None:
            self.calls += 1
            await self.send(message, send)

        await self.inner(scope, receive, broken)

    async def send(self, message: Any, send: Any) -> None:
        await send(message)


class Loses(Faulty):
    async def send(self, message: Any, send: Any) -> None:
        if self.calls != 3:
            await send(message)


class Doubles(Faulty):
    async def send(self, message: Any, send: Any) -> None:
        await send(message)
        if self.calls == 3:
            await send(message)


class Comments(Faulty):
    async def send(self, message: Any, send: Any) -> None:
        await send(message)
        if self.calls == 2:
            await send({"type": "http.response.body", "body": b":\n", "more_body": True})


class GoesOn(Faulty):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await super().__call__(scope, receive, send)
        await send({"type": "http.response.body", "body": b"more", "more_body": True})


class Raises(Faulty):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await super().__call__(scope, receive, send)
        raise ValueError("invented")


class Swallows(Faulty):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        except Exception:  # noqa: BLE001
            return


class ReportsTwice(Faulty):
    def __init__(self, app: Any, *, on_close: Callable[[Any], Any], **options: Any) -> None:
        def twice(report: Any) -> None:
            on_close(report)
            on_close(report)

        super().__init__(app, on_close=twice, **options)


class ReportsNothing(Faulty):
    def __init__(self, app: Any, *, on_close: Callable[[Any], Any], **options: Any) -> None:
        super().__init__(app, **options)


class WaitsLonger(Faulty):
    def __init__(self, app: Any, *, max_delay: float, **options: Any) -> None:
        super().__init__(app, max_delay=10 * max_delay, **options)


class Splits(Faulty):
    """Merges events whose text differs: it cuts a letter off the third write."""

    async def send(self, message: Any, send: Any) -> None:
        if self.calls == 3:
            message = {**message, "body": message["body"].replace(b"<", b"", 1)}
        await send(message)


RAISES_ITSELF: Final = Request(App(producers=(Producer((*CHUNKS, Step("raise"))),)))
MERGED: Final = Settings(merge="plain", max_delay=0.0)


@pytest.mark.parametrize(
    ("faulty", "request_", "settings", "expected"),
    [
        (Loses, STREAM, Settings(), "bytes"),
        (Doubles, STREAM, Settings(), "bytes"),
        (Comments, STREAM, Settings(), "comment"),
        (GoesOn, STREAM, Settings(), "order"),
        (Raises, STREAM, Settings(), "exception"),
        (Swallows, RAISES_ITSELF, Settings(), "exception"),
        (ReportsTwice, STREAM, Settings(), "report"),
        (ReportsNothing, STREAM, Settings(), "no report"),
        (ReportsNothing, LEFT, Settings(), "no report"),
        (WaitsLonger, SLOW, Settings(), "delay"),
        (Splits, STREAM, MERGED, "merged"),
    ],
)
def test_a_faulty_middleware_is_found(
    faulty: Any, request_: Request, settings: Settings, expected: str
) -> None:
    """A middleware that breaks a rule has a fault of that kind, and the package's has none."""
    plan = Plan(1, "asyncio", settings=settings, requests=(request_,))

    assert judge(plan, run(plan)) == []
    assert expected in map(kind, judge(plan, run(plan, faulty)))


def test_a_run_is_the_same_each_time() -> None:
    """Two runs of a seed have the same events at the same times: a fault can be looked at again."""
    for seed in range(20):
        plan = draw(seed, "asyncio")
        assert run(plan).trace == run(plan).trace


def test_a_plan_is_made_simpler() -> None:
    """What a fault does not need is left out: requests, steps, fates and options."""
    other = Request(App(), Server(writes=(Write(1, seconds=1.0),)), begins=1.0)
    plan = Plan(1, "asyncio", settings=Settings(max_delay=0.0), requests=(other, STREAM, LEFT))

    def fails(plan: Plan) -> bool:
        return "bytes" in map(kind, judge(plan, run(plan, Loses)))

    simple = shrink(plan, fails)

    assert fails(simple)
    assert len(simple.requests) == 1
    assert not simple.requests[0].fates
    assert simple.settings == Settings()
