"""`CancellationToken` without a middleware: cancelled once, for one reason, from any thread."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable

import pytest

from sse_batching import CancellationToken, CancelReason, SSEBatchingError, StreamCancelled
from tests.support.threads import eager_switching, together


def test_a_new_token_is_not_cancelled() -> None:
    """A token starts out uncancelled, with no reason, message or error."""
    token = CancellationToken()

    assert (token.cancelled, token.reason, token.message, token.error) == (False, None, None, None)


def test_the_token_tells_why_it_was_cancelled() -> None:
    """The token has the reason, the message and the error that `cancel` was given."""
    token, error = CancellationToken(), ConnectionResetError("gone")

    assert token.cancel(CancelReason.SEND_FAILED, "SSE client disconnected", error) is True
    assert token.cancelled is True
    assert token.reason is CancelReason.SEND_FAILED
    assert token.message == "SSE client disconnected"
    assert token.error is error


def test_cancel_without_a_reason_was_requested() -> None:
    """The reason of a bare `cancel()` is `REQUESTED`."""
    token = CancellationToken()

    token.cancel()

    assert (token.reason, token.message, token.error) == (CancelReason.REQUESTED, None, None)


def test_a_later_cancel_changes_nothing() -> None:
    """A later `cancel` returns False, and changes neither the reason nor the message."""
    token = CancellationToken()
    token.cancel(CancelReason.CLIENT_DISCONNECTED, "first")

    assert token.cancel(CancelReason.DEADLINE, "second", OSError()) is False
    assert (token.reason, token.message) == (CancelReason.CLIENT_DISCONNECTED, "first")
    assert token.error is None


def test_a_reason_may_be_given_by_its_value() -> None:
    """A reason that came as a string, for example in a request, becomes the enum member."""
    token = CancellationToken()

    token.cancel(CancelReason("deadline"))

    assert token.reason is CancelReason.DEADLINE


def test_an_unknown_reason_is_rejected_and_cancels_nothing() -> None:
    """An unknown reason raises `ValueError`, and the token can still be cancelled."""
    token = CancellationToken()

    with pytest.raises(ValueError, match="bored"):
        token.cancel("bored")  # type: ignore[arg-type]
    assert not token.cancelled
    assert token.cancel()


def test_exactly_one_of_many_threads_cancels() -> None:
    """One of many simultaneous calls of `cancel` returns True, and the token has its message."""
    for _ in range(20):
        token, called = CancellationToken(), list[str]()
        token.register(called.append, "called")
        names = [f"thread {n}" for n in range(16)]
        calls = [functools.partial(token.cancel, CancelReason.REQUESTED, name) for name in names]

        with eager_switching():
            won = together(calls)

        assert won.count(True) == 1
        assert token.message == names[won.index(True)]
        assert called == ["called"]


def test_the_reason_is_set_before_the_flag() -> None:
    """A thread that sees `cancelled` also finds the reason, the message and the error."""
    seen: list[object] = []

    class Watched(CancellationToken):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "cancelled" and value:
                seen.append((self.reason, self.message, self.error))
            super().__setattr__(name, value)

    token, error = Watched(), OSError()
    token.cancel(CancelReason.SEND_FAILED, "why", error)

    assert seen == [(CancelReason.SEND_FAILED, "why", error)]


def test_the_repr_shows_the_state() -> None:
    """A token in a log line shows whether it is cancelled, and why."""
    token = CancellationToken()
    assert repr(token) == "<CancellationToken not cancelled>"

    token.cancel(CancelReason.DEADLINE)

    assert repr(token) == "<CancellationToken cancelled: deadline>"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copied_token_is_the_token(copied: Callable[[object], object]) -> None:
    """A token inside a state that a framework copies is still cancelled. A token of its own would
    never be."""
    token = CancellationToken()

    assert copied(token) is token
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(token)


# raise_if_cancelled


def test_raise_if_cancelled_does_nothing_before_the_cancellation() -> None:
    """The work goes on while the token is not cancelled."""
    CancellationToken().raise_if_cancelled()


def test_raise_if_cancelled_raises_the_message_and_the_reason() -> None:
    """The exception has the message and the reason of `cancel`, and is an `SSEBatchingError`."""
    token = CancellationToken()
    token.cancel(CancelReason.CLIENT_DISCONNECTED, "SSE client disconnected")

    with pytest.raises(StreamCancelled, match="SSE client disconnected") as caught:
        token.raise_if_cancelled()
    assert caught.value.reason is CancelReason.CLIENT_DISCONNECTED
    assert isinstance(caught.value, SSEBatchingError)
    assert caught.value.__cause__ is None


def test_raise_if_cancelled_is_chained_from_the_error() -> None:
    """The error of the failed write is the `__cause__` of the exception."""
    token, error = CancellationToken(), ConnectionResetError("gone")
    token.cancel(CancelReason.SEND_FAILED, "SSE client disconnected", error)

    with pytest.raises(StreamCancelled) as caught:
        token.raise_if_cancelled()
    assert caught.value.__cause__ is error


def test_without_a_message_the_reason_is_the_message() -> None:
    """The exception of a cancellation without a message has the reason as its message."""
    token = CancellationToken()
    token.cancel(CancelReason.DEADLINE)

    with pytest.raises(StreamCancelled, match=r"^deadline$"):
        token.raise_if_cancelled()
