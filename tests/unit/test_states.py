"""The states of a request: which state may follow which, and that no other move is possible."""

from __future__ import annotations

from typing import Any, Final

import pytest

from sse_batching._exchange import Exchange
from sse_batching._loop import current_loop
from sse_batching._receiver import Receiver
from sse_batching._states import TRANSITIONS, State
from tests.conftest import VIRTUAL_TIME, loops
from tests.unit.defaults import default_options

MEANING: Final[dict[tuple[State, State], str]] = {
    (State.AWAITING, State.ABANDONED): "the client leaves before the response starts",
    (State.AWAITING, State.PASSING): "a plain response starts",
    (State.AWAITING, State.STREAMING): "a batched response starts",
    (State.ABANDONED, State.PASSING): "an app that did not stop starts a plain response",
    (State.ABANDONED, State.CLOSED): "an app that did not stop starts a batched response",
    (State.PASSING, State.COMPLETED): "the app sends the last message of a plain response",
    (State.PASSING, State.STREAMING): "an inner middleware batches what the outer one lets pass",
    (State.STREAMING, State.FINISHING): "the app sends the last message of a stream",
    (State.STREAMING, State.PASSING): "the app returns in the middle of a stream",
    (State.STREAMING, State.CLOSED): "the client is lost in the middle of a stream",
    (State.FINISHING, State.COMPLETED): "the last message of a stream was delivered",
    (State.FINISHING, State.CLOSED): "the client is lost in the last write",
}
"""All transitions, and what happens in each of them."""

pytestmark = loops(VIRTUAL_TIME)

EVERY: Final = [(source, target) for source in State for target in State]


def by_name(states: Any) -> str:
    return "-".join(state.name for state in states) if isinstance(states, tuple) else states.name


def test_every_transition_has_a_meaning() -> None:
    """The table allows these transitions and no others."""
    allowed = {(source, target) for source in State for target in TRANSITIONS[source]}

    assert allowed == set(MEANING)


def test_no_state_follows_the_last_two() -> None:
    """A completed or closed response stays so."""
    terminal = {state for state in State if not TRANSITIONS[state]}

    assert terminal == {State.COMPLETED, State.CLOSED}


def test_every_state_can_be_reached_and_leads_to_an_end() -> None:
    """Each state can be reached from the first one, and a last state can be reached from each."""

    def reachable(state: State) -> set[State]:
        found, new = set[State](), {state}
        while new:
            found |= new
            new = {target for source in new for target in TRANSITIONS[source]} - found
        return found

    assert reachable(State.AWAITING) == set(State)
    assert all(reachable(state) & {State.COMPLETED, State.CLOSED} for state in State)


def exchange_in(state: State) -> Exchange:
    """Return an exchange in this state."""

    async def nothing_to_receive() -> Any:
        raise AssertionError

    async def nothing_to_send(message: Any) -> None:
        raise AssertionError

    loop = current_loop()
    return Exchange(
        {},
        nothing_to_send,
        Receiver(nothing_to_receive, loop),
        default_options(),
        loop,
        loop.app_task(loop.current_task()),
        id="0" * 32,
        began=loop.time(),
        state=state,
    )


@pytest.mark.anyio
@pytest.mark.parametrize("pair", MEANING, ids=by_name)
async def test_an_allowed_move_is_made(pair: tuple[State, State]) -> None:
    """`move` makes each transition of the table."""
    source, target = pair
    exchange = exchange_in(source)

    exchange.move(target)

    assert exchange.state is target


@pytest.mark.anyio
@pytest.mark.parametrize("pair", [pair for pair in EVERY if pair not in MEANING], ids=by_name)
async def test_a_forbidden_move_fails(pair: tuple[State, State]) -> None:
    """Any other `move` raises an error that names both states, and does not change the state."""
    source, target = pair
    exchange = exchange_in(source)

    with pytest.raises(AssertionError, match=f"{source} -> {target}"):
        exchange.move(target)
    assert exchange.state is source
