"""Signal handlers run between any two steps of the main thread, and may cancel a token too.

A trace function stands in for the signal: it calls the handler before one step of the token's code.
Each test does so before every step in turn.
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
    """Calls `handler` before the step of that number, of those that the token's code takes."""

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
    """A token and an interruption before the first step, others before the second, and so on."""
    for number in itertools.count():
        token = CancellationToken()
        interruption = Interruption(number, step, make_handler(token))
        yield token, interruption
        if not interruption.happened:
            assert number > 0, "nothing was interrupted: the trace function is not called"
            return


def test_a_handler_that_cancels_amid_a_cancel_does_not_cancel_twice() -> None:
    """Of a cancellation and one that interrupts it a single one counts, whichever it is; and when
    either returns the token is cancelled."""
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


def test_a_handler_that_cancels_amid_a_registration_loses_no_callback() -> None:
    """A callback that is just being registered is called once."""
    for token, interruption in every_interruption(lambda token: token.cancel):
        calls: list[str] = []

        with interruption:
            token.register(calls.append, "called")
        token.cancel()

        assert calls == ["called"]


def test_a_handler_that_cancels_amid_an_unregistration_leaves_no_doubt() -> None:
    """A callback that is just being taken back is called, or was taken back, and never both."""
    for token, interruption in every_interruption(lambda token: token.cancel):
        calls: list[str] = []
        registration = token.register(calls.append, "called")

        with interruption:
            taken_back = registration.unregister()
        token.cancel()

        assert calls == ([] if taken_back else ["called"])


def test_a_handler_that_cancels_amid_a_wait_ends_it() -> None:
    """A thread that is about to wait does not miss the cancellation."""
    for token, interruption in every_interruption(lambda token: token.cancel, "line"):
        with interruption:
            woken = token.wait(0.01)

        assert woken or not interruption.happened
