"""The states of a request, and which state may follow which."""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final


class State(IntEnum):
    """Where a request stands. `RequestContext` owns the state until there is an exchange. From then
    on only `Exchange.move` changes the state.

    An `IntEnum`, because every stream looks up its states in a table. The hash of a plain `Enum`
    member is a call of a Python function.
    """

    AWAITING = auto()
    """The app has not started its response."""
    ABANDONED = auto()
    """The request ended early before the response started: the client left, or the server cancelled
    the request."""
    PASSING = auto()
    """The response is not batched, or the app has returned without a last message."""
    STREAMING = auto()
    """The response is batched."""
    FINISHING = auto()
    """The app's last message is being written."""
    COMPLETED = auto()
    """The last message was delivered or, of a response that is not batched, is passed to the
    server. A disconnect after that is only the end of the request."""
    CLOSED = auto()
    """The batched response ended early. `send` is rejected or ignored, and nothing is added to the
    buffer. What is buffered is still written if the server has cancelled the request, and dropped
    otherwise."""


# For code that runs for every message: CPython 3.11 looks up a member of an enum in a Python
# function.
AWAITING: Final = State.AWAITING
ABANDONED: Final = State.ABANDONED
PASSING: Final = State.PASSING
STREAMING: Final = State.STREAMING
FINISHING: Final = State.FINISHING
COMPLETED: Final = State.COMPLETED
CLOSED: Final = State.CLOSED

TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.AWAITING: frozenset({State.ABANDONED, State.PASSING, State.STREAMING}),
    # An app that goes on after its client has left may still start a response.
    State.ABANDONED: frozenset({State.PASSING, State.CLOSED}),
    # To STREAMING: an inner middleware batches what an outer one lets pass.
    State.PASSING: frozenset({State.COMPLETED, State.STREAMING}),
    # To PASSING: the app has returned without a last message.
    State.STREAMING: frozenset({State.FINISHING, State.CLOSED, State.PASSING}),
    State.FINISHING: frozenset({State.COMPLETED, State.CLOSED}),
    State.COMPLETED: frozenset(),
    State.CLOSED: frozenset(),
}
