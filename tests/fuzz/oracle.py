"""Judge a run. Each fault is one line: its kind, a colon, and what was seen.

The rules know the guarantees of docs/guarantees.md and nothing of how the package holds them.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.fuzz import rules_bytes, rules_end, rules_time
from tests.fuzz.plan import Plan
from tests.fuzz.seen import History, Seen


def judge(plan: Plan, history: History) -> list[str]:
    """Return the faults of a run."""
    return list(dict.fromkeys(_faults(plan, history)))


def kind(fault: str) -> str:
    """Return the kind of a fault."""
    return fault.partition(":")[0]


def _faults(plan: Plan, history: History) -> Iterator[str]:
    for seen in history.requests:
        if history.closed:
            yield from _closed(seen)
            continue
        yield from seen.strange
        if not history.stuck:
            yield from rules_bytes.faults(plan.settings, seen)
            yield from rules_end.faults(plan, seen)
            yield from rules_time.faults(plan, seen)
    if history.stuck:
        yield f"hang: {history.stuck}"
    for problem in history.problems:
        yield f"noise: {problem}"
    for left in history.left_over:
        yield f"left: {left}"


def _closed(seen: Seen) -> Iterator[str]:
    """The event loop was closed with the request in it: the token is all that can be told.

    A garbage collection closes a `send` that waits, in another context, also without the package.
    """
    if seen.reports:
        return  # the request had ended, and only its `on_close` was open
    if not seen.open_at_close or seen.token is None or seen.app_ended is None:
        return  # Python has not destroyed the task: a token that cancels it, or anyio, holds it
    if not seen.token.cancelled:
        yield "closed loop: the token is not cancelled"
