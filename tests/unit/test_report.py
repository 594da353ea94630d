"""A report can be logged, copied and sent to another process."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from sse_batching import CancelReason, ClientDisconnected, StreamCancelled, StreamReport

ANSWER = b"data: what the model said to one user\n\n"


class Uncopied(Exception):
    """An exception that cannot be copied, like those of some clients: it wants two arguments."""

    def __init__(self, message: str, response: object) -> None:
        super().__init__(message)
        self.response = response


def report(error: BaseException | None = None) -> StreamReport:
    """Return the report of a stream whose client has left."""
    return StreamReport(
        stream_id="5f",
        outcome="incomplete",
        reason=CancelReason.CLIENT_DISCONNECTED,
        error=error,
        chunks=3,
        bytes_in=64,
        writes=1,
        bytes_sent=20,
        bytes_undelivered=44,
        time_to_first_chunk=0.1,
        duration=2.0,
        longest_delay=0.05,
        cancel_latency=0.01,
        recorded=ANSWER,
        recorded_all=False,
    )


def test_the_repr_has_no_word_of_the_answer() -> None:
    """The `repr` shows every number, and of the recorded text only the length."""
    shown = repr(report())

    assert shown.startswith(
        "StreamReport(stream_id='5f', outcome='incomplete', reason=<CancelReason"
    )
    assert "chunks=3" in shown
    assert f"recorded=<{len(ANSWER)} bytes>" in shown
    assert "model" not in shown


ERRORS = [
    None,
    ConnectionResetError("reset"),
    ClientDisconnected("gone", CancelReason.CLIENT_DISCONNECTED),
    StreamCancelled("stop", CancelReason.REQUESTED),
    ExceptionGroup("both", [ClientDisconnected("gone", CancelReason.SEND_FAILED)]),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_report_becomes_a_dict_and_comes_out_of_a_pickle(error: BaseException | None) -> None:
    """`dataclasses.asdict` and `pickle` give every field, whichever error of ours is in it.
    Pitfall 79."""
    original = report(error)
    names = [field.name for field in dataclasses.fields(original)]

    unpickled = pickle.loads(pickle.dumps(original))
    for found in (
        dataclasses.asdict(original),
        {name: getattr(unpickled, name) for name in names},
    ):
        expected: dict[str, Any] = {name: getattr(original, name) for name in names}
        assert repr(found.pop("error")) == repr(expected.pop("error"))
        assert found == expected


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copied_report_is_the_report(copied: Any) -> None:
    """A report never changes, so a copy shares all of it, also an error that allows no copy."""
    original = report(Uncopied("limit", response=object()))

    assert copied([original])[0] is original
    assert copied(original) is original
    assert dataclasses.asdict(dataclasses.replace(original, error=None))["chunks"] == 3


def test_the_reason_comes_out_of_a_pickle_as_the_member() -> None:
    """A reason that another process gets is the member of the enum there."""
    assert pickle.loads(pickle.dumps(CancelReason.DEADLINE)) is CancelReason.DEADLINE
