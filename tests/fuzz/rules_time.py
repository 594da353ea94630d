"""When things happened: delays, bounds, and the longest time of a request. See `oracle.py`."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tests.fuzz.app import CLEANUP
from tests.fuzz.plan import Plan, Producer, Step
from tests.fuzz.rules_bytes import delivered_order, is_batched, mark
from tests.fuzz.seen import Seen, Taken

EPSILON = 1e-6
LAST_WRITE = 1.0
"""Seconds that the last write may still take after the client has left."""

CLEANUPS = 4.0
"""Seconds that the middleware may use to end by itself: its last write, and its two tasks."""


def faults(plan: Plan, seen: Seen) -> Iterator[str]:
    """Yield what took too long, or held too much."""
    yield from _length(plan, seen)
    yield from _told(plan, seen)
    if is_batched(seen) and not plan.settings.merge:
        yield from _delays(plan, seen)
        yield from _bound(plan, seen)


def _length(plan: Plan, seen: Seen) -> Iterator[str]:
    """A request lasts no longer than all that its app and its server wait for, and its limits."""
    if seen.ended is None:
        if seen.app_began:
            yield "hang: the middleware has not returned"
        return
    app, server = seen.request.app, seen.request.server
    waits = sum(_waits(producer) for producer in app.producers)
    writes = sum(_writing(plan, seen, taken) for taken in seen.taken)
    gates = sum(pending.ends for pending in plan.gate)
    fates = max((fate.at for fate in seen.request.fates), default=0.0)
    fates = max(fates, server.receive_fails or 0.0, *(one.at for one in server.arrivals), 0.0)
    limit = waits + writes + gates + fates + 2 * plan.settings.grace_period + CLEANUPS + 2 * CLEANUP
    if seen.ended - seen.began > limit + EPSILON:
        yield f"length: {seen.ended - seen.began} s, in place of at most {limit} s"


def _waits(producer: Producer) -> float:
    return sum(
        step.wait + step.number * (step.do in ("receive", "wait_token", "sleep"))
        for step in producer.steps
    )


def _writing(plan: Plan, seen: Seen, taken: Taken) -> float:
    """Return how long a write may last at most: as long as it does, or until it counts as
    stalled."""
    lasted = (taken.ended or taken.began) - taken.began
    timeout = plan.settings.send_timeout
    if timeout is None or taken.by_app or seen.request.server.cancelled or not is_batched(seen):
        return lasted
    return min(lasted, timeout)


def _steps(plan: Plan, seen: Seen) -> Iterator[Step]:
    for producer in seen.request.app.producers:
        yield from producer.steps


def _told(plan: Plan, seen: Seen) -> Iterator[str]:
    """An app that never asked for its token is told of the disconnect at once, and an app that
    asked after the grace period, if it waits in `receive`."""
    said, got = seen.disconnect_said, seen.disconnect_got
    if said is None or got is None or seen.waited_since is None or seen.left is None:
        return
    if seen.request.app.listener and is_batched(seen):
        grace = plan.settings.grace_period if seen.asked is not None else 0.0
        if any(not sent.message.get("more_body", True) for sent in seen.sent):
            grace += LAST_WRITE
        if (
            got > max(said, seen.waited_since) + grace + EPSILON
            and not seen.request.server.arrivals
        ):
            yield f"told: of the disconnect {got - said} s late"


def _delays(plan: Plan, seen: Seen) -> Iterator[str]:
    """No chunk waits longer than `max_delay` and the write in flight."""
    order = delivered_order(seen)
    if order is None:
        return
    numbers = [step.number for step in _steps(plan, seen) if step.do == "configure"]
    longest = max(plan.settings.max_delay, *numbers, 0.0)
    spans = list(_spans(seen))
    waited = any(taken.ended != taken.began for taken in seen.taken)
    # A chunk that joins others behind a write in flight begins no burst.
    ages = {} if numbers or waited else _ages(seen, longest)
    at = 0
    for sent in order:
        at += len(mark(sent.message))
        if not sent.at_once or sent.message["type"] != "http.response.body":
            continue
        number = next((n for n, (_, end) in enumerate(spans) if end >= at), None)
        if number is None:
            continue
        taken = spans[number][0]
        before = seen.taken[: seen.taken.index(taken)]
        free = max((one.ended or 0.0 for one in before), default=0.0)
        most = min(longest, ages.get(sent.order, longest))
        if taken.began > max(sent.called + most, free) + EPSILON:
            late = taken.began - sent.called
            yield f"delay: a chunk waited for {late:.6f} s in place of {most} s"


def _ages(seen: Seen, max_delay: float) -> dict[int, float]:
    """Return how old its burst was at each call of `send`, as far as the calls did not wait."""
    ages: dict[int, float] = {}
    burst, last = 0.0, -math.inf
    for sent in seen.sent:
        if sent.message["type"] != "http.response.body":
            if sent.message["type"] == "http.response.start":
                continue
            break
        if not sent.at_once or "x-unknown" in sent.message:
            break  # when it was accepted is not known
        if not sent.message["body"] and ages:
            continue  # dropped
        if sent.called - last >= max_delay:
            burst = sent.called
        ages[sent.order] = sent.called - burst
        last = sent.called
    return ages


def _spans(seen: Seen) -> Iterator[tuple[Taken, int]]:
    """Yield each write that was taken, with the place of its end among all bytes."""
    at = 0
    for taken in seen.taken:
        if taken.result == "taken" and taken.message.get("body") != b":\n":
            at += len(mark(taken.message))
            yield taken, at


def _bound(plan: Plan, seen: Seen) -> Iterator[str]:
    """When `send` returns, no more than `max_batch_bytes` are accepted and not delivered, besides
    the one chunk that crossed the bound."""
    accepted = 0
    for sent in sorted(seen.sent, key=lambda sent: sent.return_order):
        if sent.returned is None or sent.in_background:
            continue
        size = len(sent.message.get("body", b""))
        accepted += size
        over = accepted - sent.delivered_before
        if over > plan.settings.max_batch_bytes + size and not any(
            one.reason for one in seen.reports
        ):
            yield f"bound: {over} bytes are accepted and not delivered"
            return
