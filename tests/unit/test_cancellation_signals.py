"""A signal handler may cancel a token between any two steps of the token's own code.

A trace function replaces the signal: it calls the handler before one step of the token's code. Each
test does that for every step in turn.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, Literal, Self, TypeAlias

import pytest

from sse_batching import CancellationToken, StreamCancelled, cancellation

Step: TypeAlias = Literal["line", "opcode"]


class Interruption:
    """Calls `handler` once, before the step with this number in the token's code."""

    def __init__(self, number: int, step: Step, handler: Callable[[], object]) -> None:
        self.happened = False
        self._steps_to_go = number
        self._step = step
        self._handler = handler

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        # CPython 3.12 traces opcodes only if a frame asks for that before `settrace`.
        sys._getframe().f_trace_opcodes = self._step == "opcode"
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if self.happened or frame.f_code.co_filename != cancellation.__file__:
            return None
        frame.f_trace_opcodes = self._step == "opcode"
        if event == self._step:
            if self._steps_to_go == 0:
                self.happened = True
                self._handler()
            self._steps_to_go -= 1
        return self._trace


def every_interruption(
    make_handler: Callable[[CancellationToken], Callable[[], object]], step: Step = "opcode"
) -> Iterator[tuple[CancellationToken, Interruption]]:
    """Yield a token and an interruption for the first step, then for the second, up to the last."""
    for number in itertools.count():
        token = CancellationToken()
        interruption = Interruption(number, step, make_handler(token))
        yield token, interruption
        if not interruption.happened:
            assert number > 0, "nothing was interrupted: the trace function is not called"
            return


def test_a_handler_that_cancels_during_cancel_does_not_cancel_twice() -> None:
    """One of the two calls counts, whichever it is. The token is cancelled when either returns."""
    inner: list[bool] = []

    def handler(token: CancellationToken) -> Callable[[], object]:
        def cancel() -> None:
            inner.append(token.cancel(message="inner"))
            assert token.cancelled

        return cancel

    for token, interruption in every_interruption(handler):
        calls: list[str] = []
        inner.clear()
        token.register(calls.append, "called")

        with interruption:
            outer = token.cancel(message="outer")

        assert [outer, *inner].count(True) == 1
        assert token.message == ("outer" if outer else "inner")
        assert calls == ["called"]


def test_a_handler_that_cancels_during_register_loses_no_callback() -> None:
    """A callback is called once, even if the handler cancels during its registration."""
    for token, interruption in every_interruption(lambda token: token.cancel):
        calls: list[str] = []

        with interruption:
            token.register(calls.append, "called")
        token.cancel()

        assert calls == ["called"]


def test_a_handler_that_cancels_during_unregister_leaves_no_doubt() -> None:
    """Either the callback is called or `unregister` returns True, and never both."""
    for token, interruption in every_interruption(lambda token: token.cancel):
        calls: list[str] = []
        registration = token.register(calls.append, "called")

        with interruption:
            unregistered = registration.unregister()
        token.cancel()

        assert calls == ([] if unregistered else ["called"])


def test_a_handler_that_cancels_during_a_wait_ends_it() -> None:
    """A thread that begins to wait does not miss the cancellation."""
    for token, interruption in every_interruption(lambda token: token.cancel, "line"):
        with interruption:
            woken = token.wait(0.01)

        assert woken or not interruption.happened


METHODS: dict[str, Callable[[CancellationToken], object]] = {
    "cancel": lambda token: token.cancel(message="outer"),
    "wait": lambda token: token.wait(0.001),
    "register": lambda token: token.register(int),
    "unregister": lambda token: token.register(int).unregister(),
    "raise_if_cancelled": CancellationToken.raise_if_cancelled,
    "reason": lambda token: token.reason,
    "repr": repr,
}


@pytest.mark.parametrize("inner", METHODS)
@pytest.mark.parametrize("outer", METHODS)
def test_a_handler_may_call_what_it_has_interrupted(outer: str, inner: str) -> None:
    """Every method may be called in a handler that has interrupted any method at any step. A lock
    that both take would block the thread endlessly. Pitfall 77."""
    for token, interruption in every_interruption(lambda t: partial(METHODS[inner], t)):
        with suppress(StreamCancelled), interruption:
            METHODS[outer](token)
        token.cancel()
        assert token.wait(0)


SIGNALS = """
import random, signal, sys, time
from sse_batching import CancellationToken

rng = random.Random(int(sys.argv[1]))
signal.signal(signal.SIGALRM, lambda *_: token.cancel())
for n in range(500):
    token = CancellationToken()
    token.register(int)
    timeout = rng.choice([1e-6, 1e-3, None])
    signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 120e-6))
    while not token.cancelled:
        token.wait(timeout)
print("held")
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_real_signal_never_deadlocks_with_a_wait(seed: int) -> None:
    """The main thread waits for a token that a signal handler cancels, hundreds of times.
    Pitfall 77."""
    ended = subprocess.run(
        [sys.executable, "-c", SIGNALS, str(seed)], capture_output=True, text=True, timeout=50
    )

    assert (ended.stdout, ended.stderr) == ("held\n", "")


ASLEEP = """
import asyncio, signal, sys, uvloop
from sse_batching import CancellationToken

token = CancellationToken()
signal.signal(signal.SIGALRM, lambda *_: token.cancel())
async def main():
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    await token.wait_async()
    print("woken")
if sys.argv[1] == "trio":
    import trio
    trio.run(main)
else:
    factory = uvloop.new_event_loop if sys.argv[1] == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
"""


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_a_signal_handler_wakes_a_loop_that_is_asleep(backend: str) -> None:
    """A task in `wait_async` goes on at once, although its event loop has nothing else to do."""
    ended = subprocess.run(
        [sys.executable, "-c", ASLEEP, backend], capture_output=True, text=True, timeout=50
    )

    assert (ended.stdout, ended.stderr) == ("woken\n", "")
