"""The exceptions survive being copied and pickled, as those of Python do."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from sse_batching import CancelReason, ClientDisconnected, SSEBatchingError, StreamCancelled

COPIES = [
    pytest.param(copy.copy, id="copy"),
    pytest.param(copy.deepcopy, id="deepcopy"),
    *(
        pytest.param(
            lambda e, p=protocol: pickle.loads(pickle.dumps(e, p)), id=f"pickle-{protocol}"
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ),
]


class Stopped(StreamCancelled):
    """A subclass of a user's, with an `__init__` and an attribute of its own."""

    def __init__(self, run: int, *, spent: float) -> None:
        super().__init__(f"run {run} stopped", CancelReason.DEADLINE)
        self.spent = spent


class Left(ClientDisconnected):
    """A subclass without anything of its own."""


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize(
    "error",
    [
        SSEBatchingError("a message", 2),
        StreamCancelled("stop", CancelReason.REQUESTED),
        ClientDisconnected("gone", CancelReason.CLIENT_DISCONNECTED),
        Left("gone", CancelReason.SEND_TIMEOUT),
        Stopped(7, spent=1.5),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_copy_is_the_same_exception(
    error: SSEBatchingError, copied: Callable[[SSEBatchingError], Any]
) -> None:
    """A copy has the class, the message, the attributes and the notes. A report with such an error
    could not be sent to another process otherwise. Pitfall 79."""
    error.__notes__ = ["in run 7"]

    found = copied(error)

    assert type(found) is type(error)
    assert found is not error
    assert (str(found), found.args, vars(found)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_is_treated_as_pythons_own_exceptions(
    copied: Callable[[BaseException], BaseException],
) -> None:
    """A copy leaves behind the cause and the context, as a copy of an `OSError` does."""
    for error in (ClientDisconnected("gone", CancelReason.SEND_FAILED), OSError("gone")):
        error.__cause__ = ConnectionResetError("reset")

        found = copied(error)

        assert (found.__cause__, found.__context__) == (None, None)
        assert isinstance(found, OSError)
        assert found.errno is None
