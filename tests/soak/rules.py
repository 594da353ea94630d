"""The rules that every stream has to keep, checked against both its client and its server."""

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
"""Seconds within which a generator has to be closed: a few iterations of a busy event loop."""


def faults(plan: Plan, seen: Seen, record: Record | None) -> Iterator[str]:
    """Describe each rule that the stream breaks."""
    order = plan.order
    if seen.status == 200 and not order.body(len(seen.body)).startswith(seen.body):
        yield "the bytes are not those that the app sent"
    if seen.trouble is not None:
        yield f"the client had trouble: {seen.trouble}"
    if record is None:
        if not may_be_unknown(plan):
            yield "the server has not ended the stream"
        return
    if record.left:
        yield f"something was left when the middleware returned: {record.left}"
    if record.closed_late > SOON:
        yield f"a generator was closed {record.closed_late:.1f} s after the request had ended"
    if record.asked == (order.app in NEVER_ASK):
        yield "another app answered than the plan says"
    if not plan.leaves:
        yield from _faults_of_a_client_that_stayed(plan, seen, record)
    elif record.outcome == "completed":
        yield from _faults_of_a_completed_stream(plan, record)
    else:
        yield from _faults_of_a_cut_stream(plan, seen, record)


def may_be_unknown(plan: Plan) -> bool:
    """Return True if the request may never have reached the app.

    A reset discards what the server has not read yet, and the server may just have closed an idle
    connection.
    """
    return plan.point in (Point.BEFORE_START, Point.IN_UPLOAD)


def _faults_of_a_client_that_stayed(plan: Plan, seen: Seen, record: Record) -> Iterator[str]:
    body = plan.order.body(0)
    if seen.status != 200 or not seen.complete or seen.body != body:
        yield f"the client stayed and got {seen.status}, {len(seen.body)} of {len(body)} bytes"
    if record.cancellations or record.reason is not None:
        why = f"{record.cancellations} {record.reason}"
        yield f"the client stayed, and the token was cancelled: {why}"
    if plan.order.app == "waits":
        return
    if (record.outcome, record.bytes_undelivered) != ("completed", 0):
        lost = record.bytes_undelivered
        yield f"the client stayed, and the stream is {record.outcome}, {lost} bytes undelivered"
    if record.bytes_in != len(body):
        yield f"{record.bytes_in} bytes went in, {len(body)} came out"


def _faults_of_a_completed_stream(plan: Plan, record: Record) -> Iterator[str]:
    """Check a stream that completed although its client left.

    Only a server that had already taken the last message may report that.
    """
    if plan.point is not Point.LAST_WRITE:
        yield "an endless stream is completed"
    if not record.last_taken or record.told_before_last:
        yield "completed, although the server had reported the disconnect before the last message"
    if record.cancellations or record.reason is not None:
        yield f"completed and cancelled: {record.cancellations} {record.reason}"


def _faults_of_a_cut_stream(plan: Plan, seen: Seen, record: Record) -> Iterator[str]:
    reasons = {LEFT}
    if plan.point is Point.STALLED:
        reasons = {STALLED}
    elif seen.silent_for >= SEND_TIMEOUT:
        reasons = {LEFT, STALLED}  # the machine was suspended: both reasons are possible
    if record.outcome != "incomplete" or record.reason not in reasons:
        yield f"the client left, and the stream is {record.outcome}, reason {record.reason}"
    if record.cancellations != [record.reason] * record.asked:
        yield f"the token was cancelled with {record.cancellations}"
    if record.reason == LEFT and not record.told:
        yield "counted as a disconnect, and the server had not reported any"
    if seen.complete and seen.status == 200 and plan.order.app != "waits":
        yield "the client left, and had received the whole response"
