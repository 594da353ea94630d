"""What must be true of a stream, for its client and its server together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sse_batching import CancelReason
from tests.soak.app import SEND_TIMEOUT
from tests.soak.client import Seen
from tests.soak.plan import NEVER_ASK, Plan, Point
from tests.soak.record import Record

LEFT: Final = str(CancelReason.CLIENT_DISCONNECTED)
STALLED: Final = str(CancelReason.SEND_TIMEOUT)
SOON: Final = 1.0
"""Seconds for a generator to be closed: a few turns of a loop that is busy."""


def faults(plan: Plan, seen: Seen, record: Record | None) -> Iterator[str]:
    """Every rule that is broken, in words."""
    order = plan.order
    if seen.status == 200 and not order.body(len(seen.body)).startswith(seen.body):
        yield "the bytes are not those that the app sent"
    if seen.trouble is not None:
        yield f"the client had trouble: {seen.trouble}"
    if record is None:
        if not may_be_unknown(plan):
            yield "the server has not ended it"
        return
    if record.left:
        yield f"something was left when the middleware returned: {record.left}"
    if record.closed_late > SOON:
        yield f"a generator was closed {record.closed_late:.1f} s after the request had ended"
    if record.asked == (order.app in NEVER_ASK):
        yield "the app is not the one that was meant"
    if not plan.leaves:
        yield from _faults_of_one_that_stayed(plan, seen, record)
    elif record.outcome == "completed":
        yield from _faults_of_one_that_was_late(plan, record)
    else:
        yield from _faults_of_one_that_left(plan, seen, record)


def may_be_unknown(plan: Plan) -> bool:
    """Whether the app may never have seen the request: a reset takes with it what the server has
    not read yet, and a server may just have closed a connection that was idle."""
    return plan.point in (Point.BEFORE_START, Point.IN_UPLOAD)


def _faults_of_one_that_stayed(plan: Plan, seen: Seen, record: Record) -> Iterator[str]:
    body = plan.order.body(0)
    if seen.status != 200 or not seen.complete or seen.body != body:
        yield f"it stayed and got {seen.status}, {len(seen.body)} of {len(body)} bytes"
    if record.cancellations or record.reason is not None:
        yield f"it stayed, and its token was cancelled: {record.cancellations} {record.reason}"
    if plan.order.app == "waits":
        return
    if (record.outcome, record.bytes_undelivered) != ("completed", 0):
        yield f"it stayed, and is {record.outcome}, {record.bytes_undelivered} undelivered"
    if record.bytes_in != len(body):
        yield f"{record.bytes_in} bytes went in, {len(body)} came out"


def _faults_of_one_that_was_late(plan: Plan, record: Record) -> Iterator[str]:
    """It left, and the stream is completed: only if the server had the end of it by then."""
    if plan.point is not Point.LAST_WRITE:
        yield "an endless stream is completed"
    if not record.last_taken or record.told_before_last:
        yield "completed, though the server had said that the client left, before the last message"
    if record.cancellations or record.reason is not None:
        yield f"completed and cancelled: {record.cancellations} {record.reason}"


def _faults_of_one_that_left(plan: Plan, seen: Seen, record: Record) -> Iterator[str]:
    reasons = {LEFT}
    if plan.point is Point.STALLED:
        reasons = {STALLED}
    elif seen.silent_for >= SEND_TIMEOUT:
        reasons = {LEFT, STALLED}  # this machine has slept: it may be either
    if record.outcome != "incomplete" or record.reason not in reasons:
        yield f"it left, and is {record.outcome} because of {record.reason}"
    if record.cancellations != [record.reason] * record.asked:
        yield f"its token was cancelled {record.cancellations}"
    if record.reason == LEFT and not record.told:
        yield "counted as one who left, and the server had not said so"
    if seen.complete and seen.status == 200 and plan.order.app != "waits":
        yield "it left, and had got all of it"
