"""A signal handler may cancel a token between any two steps of the token's own code.

A trace function replaces the signal: it calls the handler before one step of the token's code. Each
test does that for every step in turn.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Literal, Self, TypeAlias

from sse_batching import CancellationToken, cancellation

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
