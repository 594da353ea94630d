"""The states of a request, and which may follow which."""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final


class State(IntEnum):
    """Where a request stands. `Exchange.move` is the one place that changes it.

    Numbers, because a table of them is looked up without a call of Python's own `Enum.__hash__`,
    and every request does that twice.
    """

    AWAITING = auto()
    """The app has not started its response."""
    ABANDONED = auto()
    """The client left before the response started."""
    PASSING = auto()
    """A response that is none of our business passes through."""
    STREAMING = auto()
    """A response is batched."""
    ENDING = auto()
    """The app's last message is on its way."""
    COMPLETED = auto()
    """The last message was delivered: a disconnect is nothing but the end of the request."""
    CLOSED = auto()
    """The stream is over before its end. The app's `send` refuses, and nothing is added to what is
    still written (which is nothing, unless the server has cancelled the request)."""


# For code that runs for every message: CPython 3.11 looks a member up by way of a Python function.
AWAITING: Final = State.AWAITING
ABANDONED: Final = State.ABANDONED
PASSING: Final = State.PASSING
STREAMING: Final = State.STREAMING
ENDING: Final = State.ENDING
COMPLETED: Final = State.COMPLETED
CLOSED: Final = State.CLOSED

TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.AWAITING: frozenset({State.ABANDONED, State.PASSING, State.STREAMING}),
    # The response of an app that did not stop: one that does not stream may as well pass.
    State.ABANDONED: frozenset({State.PASSING, State.CLOSED}),
    State.PASSING: frozenset({State.COMPLETED}),
    # To PASSING: the app has returned in the middle of it.
    State.STREAMING: frozenset({State.ENDING, State.CLOSED, State.PASSING}),
    State.ENDING: frozenset({State.COMPLETED, State.CLOSED}),
    State.COMPLETED: frozenset(),
    State.CLOSED: frozenset(),
}
