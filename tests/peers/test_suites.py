"""What counts as a fault when the suite of another package is run with the middleware."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tests.peers.suites import BATCHED, PLAIN, Peer, differences, faults
from tests.peers.wrap_every_app import Outcome, Result

KNOWN = {"test_known": "for a reason"}
PEER = Peer("it", loops=("asyncio", "trio"), may_fail={PLAIN: KNOWN, BATCHED: KNOWN})

PROOF = Counter(
    {
        "apps": 1,
        "responses in fewer writes": 1,
        "requests on asyncio": 1,
        "requests on trio": 1,
    }
)


def a_run(outcomes: Mapping[str, Outcome], counts: Counter[str] = PROOF) -> Result:
    return Result(
        {f"tests/test_it.py::{name}": what for name, what in outcomes.items()}, {}, counts
    )


def the_faults(title: str, run: Result, plain: Result | None = None) -> list[str]:
    """The first line of each; without another run it is compared with itself."""
    return [fault.splitlines()[0] for fault in faults(PEER, title, plain or run, run)]


def test_what_passes_without_it_has_to_pass_with_it() -> None:
    """Whatever else comes of such a test is a difference."""
    plain: dict[str, Outcome] = dict.fromkeys(("a", "b", "c", "d"), "passed")
    assert differences(plain, {"a": "passed", "b": "failed", "c": "skipped"}) == {
        "b": "passed without the middleware, failed with it",
        "c": "passed without the middleware, skipped with it",
        "d": "passed without the middleware, not run with it",
    }


def test_what_is_run_only_with_it_is_a_difference() -> None:
    """The two runs are of the same tests, or nothing can be said."""
    assert list(differences({}, {"a": "passed"})) == ["a"]


def test_what_fails_without_it_says_nothing() -> None:
    """But it has to be run."""
    plain: dict[str, Outcome] = {"a": "failed", "b": "failed", "c": "failed"}
    assert list(differences(plain, {"a": "passed", "b": "failed"})) == ["c"]


def test_failure_without_the_middleware_is_a_fault_unless_it_is_known() -> None:
    """An environment in which a suite fails proves nothing; the known failures have their names."""
    run = a_run({"test_a": "passed", "test_b": "failed", "test_known[trio]": "failed"})
    assert the_faults(PLAIN, run) == ["tests/test_it.py::test_b: failed"]


def test_known_failure_has_to_be_run_all_the_same() -> None:
    """To fail is all that it may do."""
    plain = a_run(
        {"test_a": "passed", "test_known[asyncio]": "passed", "test_known[trio]": "passed"}
    )
    run = a_run({"test_a": "passed", "test_known[asyncio]": "failed"})
    assert the_faults(BATCHED, run, plain) == [
        "tests/test_it.py::test_known[trio]: passed without the middleware, not run with it"
    ]


def test_known_failure_of_no_test_is_a_fault() -> None:
    """The list does not outlive what it is about."""
    run = a_run({"test_a": "passed"})
    assert the_faults(BATCHED, run) == ["test_known may fail, but there is no such test"]


def test_run_in_which_the_middleware_had_nothing_to_do_is_a_fault() -> None:
    """Nor does one prove anything in which no test passed."""
    run = a_run({"test_known": "failed"}, PROOF - Counter({"requests on trio": 1}))
    assert the_faults(BATCHED, run) == ["no test has passed", "no requests on trio"]


def test_run_that_differs_in_nothing_is_good() -> None:
    """Every test as before, and the middleware had work on each event loop."""
    run = a_run({"test_a": "passed", "test_b": "xfailed", "test_known": "passed"})
    assert the_faults(BATCHED, run) == []
