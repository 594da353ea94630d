"""How a request ended: the exception, the cancellations, the token, the report. See `oracle.py`."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Iterator

import trio
from anyio import BrokenResourceError, ClosedResourceError
from starlette.requests import ClientDisconnect

from sse_batching import CancelReason, ClientDisconnected, StreamCancelled, StreamReport
from tests.fuzz.plan import Plan
from tests.fuzz.rules_bytes import (
    COMMENT,
    END,
    delivered,
    delivered_order,
    is_batched,
    is_gone,
    optional,
)
from tests.fuzz.seen import AppError, Seen, ServerError
from tests.fuzz.server import named

FOLLOWS = (
    ClientDisconnected,
    StreamCancelled,
    ClientDisconnect,
    BrokenResourceError,
    ClosedResourceError,
)
"""What an app raises only because its client is gone."""

CANCELLED = (CancelledError, trio.Cancelled)


def faults(plan: Plan, seen: Seen) -> Iterator[str]:
    """Yield what is wrong in how the request ended."""
    yield from _exception(plan, seen)
    yield from _cancellations(plan, seen)
    yield from _token(plan, seen)
    yield from _reports(plan, seen)
    yield from _request_body(seen)
    if seen.generator_left_open and is_batched(seen):
        yield "generator: it is still open when the run is over"


def leaves(error: BaseException | None) -> list[BaseException]:
    """Return the exceptions in a group, and in groups within it."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in leaves(part)]
    return [] if error is None else [error]


def follows(error: BaseException) -> bool:
    """Return True if the app raised this only because its client is gone."""
    if isinstance(error, FOLLOWS):
        return True
    return error.__cause__ is not None and follows(error.__cause__)


# What comes out.


def _exception(plan: Plan, seen: Seen) -> Iterator[str]:
    out, raised = seen.out, seen.app_raised
    own = [one for one in leaves(raised) if not isinstance(one, CANCELLED) and not follows(one)]
    if own:
        if not _same(plan, out, raised) and not (
            seen.cancels_after_app and isinstance(out, CANCELLED)
        ):
            yield f"exception: the app raised {named(raised)}, and {named(out)} came out"
    elif out is None or all(isinstance(one, CANCELLED) for one in leaves(out)):
        pass  # `_cancellations` looks at these
    elif any(taken.error is out for taken in seen.taken) and isinstance(out, ServerError):
        pass  # the server's answer to a mistake of the app's
    elif out is raised and not early(seen):
        pass  # for example, a send to the server itself
    else:
        yield f"exception: {named(out)} came out, the app raised {named(raised)}"
    for taken in seen.taken:
        if isinstance(taken.error, ServerError) and not taken.by_app and is_batched(seen):
            told = any(sent.error is taken.error for sent in seen.sent) or any(
                one is taken.error for one in leaves(out)
            )
            if not told and not early(seen):
                yield "exception: nobody was told what the server raised"


def _same(plan: Plan, out: BaseException | None, raised: BaseException | None) -> bool:
    """Return True if what came out is what the app raised. On trio a cancelled scope takes its own
    cancellation out of a group, and makes another group of the rest."""
    if plan.loop == "trio" and isinstance(raised, BaseExceptionGroup):
        own = [id(one) for one in leaves(raised) if not isinstance(one, CANCELLED)]
        return own == [id(one) for one in leaves(out) if not isinstance(one, CANCELLED)]
    return out is raised


def early(seen: Seen) -> bool:
    """Return True if the request has ended early, as far as its report and its token tell."""
    if any(report.reason for report in seen.reports):
        return True
    return seen.token is not None and seen.token.cancelled and not seen.own_stop


def _cancellations(plan: Plan, seen: Seen) -> Iterator[str]:
    """Each cancellation from outside comes out, and no other."""
    out_cancelled = bool(seen.out) and all(isinstance(one, CANCELLED) for one in leaves(seen.out))
    if not seen.cancels:
        if out_cancelled or seen.late_cancel:
            where = "out of" if out_cancelled else "behind"
            yield f"invented cancellation: one came {where} the middleware, by nobody outside"
        if seen.cancelling and not seen.request.scope:
            yield f"cancelling: {seen.cancelling} and not 0 behind the middleware"
        return
    if plan.loop == "trio":
        return  # a cancelled scope is felt at each checkpoint: nothing can get lost
    if seen.request.scope:
        return
    if seen.cancelling != seen.cancels:
        yield f"cancelling: {seen.cancelling} and not {seen.cancels} behind the middleware"
    own = [one for one in leaves(seen.app_raised) if isinstance(one, AppError | ServerError)]
    came_out = out_cancelled or seen.late_cancel
    if not came_out and not seen.swallowed and not own and not _turned_into(seen):
        yield f"lost cancellation: {seen.cancels} from outside, and {named(seen.out)} came out"
    if out_cancelled and seen.late_cancel and seen.cancels == 1:
        yield "cancellation: one from outside came out twice"


def _turned_into(seen: Seen) -> bool:
    """Return True if the app itself has made something else of its cancellation."""
    if any(taken.by_app and taken.cancellations for taken in seen.taken):
        return True  # the server has, which the app called itself
    return (
        seen.request.app.in_group
        or seen.request.app.kind == "starlette"
        or (seen.app_raised is None and not seen.cancels_after_app)
    )


# The token.


def _token(plan: Plan, seen: Seen) -> Iterator[str]:
    token = seen.token
    if token is None:
        return
    if token.cancelled and not seen.cancelled_at_end and not seen.own_stop:
        yield "token: cancelled after the end"
    if len(seen.calls) > seen.registered:
        yield "token: a callback was called twice"
    if token.cancelled and len(seen.calls) < seen.registered:
        yield "token: a callback was not called"
    if seen.calls and not token.cancelled:
        yield "token: a callback was called, but the token is not cancelled"
    for report in seen.reports:
        if report.reason is None and token.cancelled and not seen.own_stop:
            yield "token: cancelled, but the report has no reason"
        if report.reason is not None and not token.cancelled:
            yield f"token: not cancelled, but the report says {report.reason}"
        if report.reason not in (None, token.reason) and not seen.own_stop:
            yield f"token: {token.reason}, but the report says {report.reason}"


# The report.


def _reports(plan: Plan, seen: Seen) -> Iterator[str]:
    streamed = is_batched(seen) and any(
        sent.message["type"] == "http.response.start" for sent in seen.sent
    )
    if len(seen.reports) > 1:
        yield "report: more than one"
    if streamed and not seen.reports and seen.request.enabled:
        yield "no report: of a stream"
    if not is_batched(seen):
        return
    for report in seen.reports:
        if streamed:
            yield from _numbers(plan, seen, report)
            yield from _outcome(seen, report)
        yield from _reason(plan, seen, report)


def _numbers(plan: Plan, seen: Seen, report: StreamReport) -> Iterator[str]:
    """The numbers of a report add up, and agree with what the server took."""
    writes = [
        taken
        for taken in seen.taken
        if taken.result == "taken"
        and taken.message["type"] == "http.response.body"
        and not (taken.by_app and taken.order > _app_end(seen))
        and not (seen.ended_order and taken.order > seen.ended_order)
    ]
    bodies = [taken.message["body"] for taken in writes]
    if (
        report.reason
        and len(bodies) == report.writes + 1
        and writes[-1].end_order > writes[-1].order + 1
    ):
        bodies.pop()  # it was in flight when the stream was closed, and counts as lost
    comments = sum(len(body) for body in bodies if body == COMMENT)
    lenient = any(taken.cancellations for taken in seen.taken) or (
        seen.request.server.cancelled in ("waits_on", "returns")
    )
    if not lenient and not seen.jobs and sum(map(len, bodies)) != report.bytes_sent:
        yield f"report: bytes_sent {report.bytes_sent}, and the server took {sum(map(len, bodies))}"
    if not lenient and not seen.jobs and len(bodies) != report.writes:
        yield f"report: writes {report.writes}, and the server took {len(bodies)}"
    if not plan.settings.merge and not lenient:
        total = report.bytes_sent - comments + report.bytes_undelivered
        if total != report.bytes_in:
            yield f"report: {total} bytes sent and undelivered, {report.bytes_in} in"
    chunks = [sent for sent in seen.sent if sent.message.get("body")]
    most = sum(len(sent.message["body"]) for sent in chunks)
    if report.bytes_in > most or report.chunks > len(chunks) + 1:
        yield f"report: more came in than was sent: {report.chunks} chunks, {report.bytes_in} bytes"
    if report.reason is None and not seen.jobs:
        sure = [sent for sent in chunks if not optional(seen, sent)]
        if report.chunks < len(sure):
            yield f"report: {report.chunks} chunks, and {len(sure)} were accepted"
    if report.outcome == "completed" and report.bytes_undelivered:
        yield f"report: completed, with {report.bytes_undelivered} bytes undelivered"


def _app_end(seen: Seen) -> int:
    """Return the place of the app's end among all events: tasks that outlive it write directly."""
    orders = [sent.order for sent in seen.sent if not sent.in_background]
    return max(orders, default=0)


def _outcome(seen: Seen, report: StreamReport) -> Iterator[str]:
    ended = END in delivered(seen)
    if report.outcome == "completed" and not ended:
        yield "outcome: completed, but the server has not taken the last message"
    if report.outcome == "completed":
        missing = [
            sent for sent in seen.sent if sent.message.get("body") and not optional(seen, sent)
        ]
        order = delivered_order(seen)
        if order is not None and any(sent not in order for sent in missing):
            yield "outcome: completed, but bytes are missing"
    if ended and report.outcome != "completed" and report.reason is None:
        yield f"outcome: {report.outcome}, but the server has taken the last message"
    if (report.outcome == "incomplete") and report.reason is None:
        yield "outcome: incomplete without a reason"
    if report.outcome == "completed" and report.reason is not None:
        yield f"outcome: completed, but {report.reason}"


def _reason(plan: Plan, seen: Seen, report: StreamReport) -> Iterator[str]:
    reason = report.reason
    timeout = plan.settings.send_timeout
    slow = timeout is not None and any(
        taken.ended is None or taken.ended >= taken.began + timeout - 1e-6 for taken in seen.taken
    )
    possible = {
        CancelReason.CLIENT_DISCONNECTED: seen.left is not None or seen.disconnect_said is not None,
        CancelReason.SEND_FAILED: any(taken.result == "failed" for taken in seen.taken),
        CancelReason.SEND_TIMEOUT: slow,
        CancelReason.SERVER_SHUTDOWN: bool(seen.cancels) or plan.cancel_all is not None,
    }
    if reason is not None and not possible.get(reason, seen.own_stop):
        yield f"reason: {reason}, but nothing of that kind has happened"
    if reason is None and any(is_gone(one) for one in seen.taken if not one.by_app):
        yield "reason: None, but a write has found the client gone"
    if reason is None and seen.cancels > seen.cancels_after_app and not seen.swallowed:
        own = [one for one in leaves(seen.app_raised) if isinstance(one, AppError)]
        cancelled = any(isinstance(one, CANCELLED) for one in leaves(seen.app_raised))
        if cancelled and not own and report.outcome != "completed":
            yield "reason: None, but the server has cancelled the request"


def _request_body(seen: Seen) -> Iterator[str]:
    """The app gets what the server says, in order, and then the disconnect each time."""
    said = [one for one in seen.said if one["type"] != "http.disconnect"]
    got = [one for one in seen.received if one["type"] != "http.disconnect"]
    if got != said[: len(got)]:
        yield "request body: not what the server has said"
    kinds = [one["type"] for one in seen.received]
    if "http.disconnect" in kinds and set(kinds[kinds.index("http.disconnect") :]) != {
        "http.disconnect"
    }:
        yield "request body: something behind the disconnect"
