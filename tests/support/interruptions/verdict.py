"""What is wrong with the record of a case.

The rules are those of docs/guarantees.md. This module shares no code with the package.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import trio

from sse_batching import CancelReason, ClientDisconnected, StreamReport

from .case import OUTSIDE, Case
from .record import Record, Sent

CANCELLATIONS = (asyncio.CancelledError, trio.Cancelled)
UNCOUNTED = frozenset({"leaves_tasks", "answers"})
"""Apps whose messages go to the server after the report, or are not batched at all."""
LISTENING = frozenset({"listens", "receives"})

AMBIGUOUS = "by call_soon and from outside"
"""A callback of the app's has the loop cancel the task, and the server cancels it as well. Only the
number of cancellations tells."""


def faults(case: Case, record: Record) -> list[str]:
    """Return what is wrong, one line for each fault. The first words name the kind."""
    found = list(_faults(case, record))
    ambiguous = case.scenario.asking == "soon" and record.count(*OUTSIDE)
    return [f"{AMBIGUOUS}: {fault}" for fault in found] if ambiguous else found


def _faults(case: Case, record: Record) -> Iterator[str]:
    if record.hangs is not None:
        yield f"hangs: {record.hangs}"
        return
    if record.returned is None or not record.app_started:
        return  # cancelled before the first step of the request
    yield from _leftovers(case, record)
    yield from _reports(case, record)
    yield from _delivery(case, record)
    yield from faults_of_cancellation(case, record)


def faults_of_cancellation(case: Case, record: Record) -> Iterator[str]:
    """Yield what is wrong with what came out. Nothing is, of an app without the middleware."""
    if record.app_started:
        yield from _exceptions(case, record)
        yield from _balance(case, record)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions of a group, and of the groups in it."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error


def is_cancellation(error: BaseException | None) -> bool:
    """Return True for a cancellation, and for a group of cancellations."""
    return error is not None and all(isinstance(part, CANCELLATIONS) for part in leaves(error))


def news(error: BaseException | None) -> list[BaseException]:
    """Return what the app raised of its own, alone or in a group.

    A scope of trio takes its own cancellations out of a group, and so makes another group.
    """
    if error is None:
        return []
    known = (*CANCELLATIONS, ClientDisconnected)
    return [part for part in leaves(error) if not isinstance(part, known)]


def _uncancellable(case: Case) -> bool:
    return case.scenario.sending == "stubborn"


# Everything is stopped.


def _leftovers(case: Case, record: Record) -> Iterator[str]:
    left = [name for name in record.left if not (_uncancellable(case) and "_run" in name)]
    if left:
        yield f"left behind: {left}"
    if record.left_later:
        yield f"never stopped: {record.left_later}"
    if record.cancelled_later and (is_cancellation(record.error) or not _cancelled_again(record)):
        yield "cancelled after the end"
    for complaint in record.complaints:
        if not (_uncancellable(case) and "cannot be cancelled" in complaint):
            yield f"complaint: {complaint}"


# There is one report, and it is true.


def _reports(case: Case, record: Record) -> Iterator[str]:
    streamed = case.scenario.app != "answers" and any(sent.starts for sent in record.sends)
    if len(record.reports) > 1 or (streamed and not record.reports):
        yield f"reports: {len(record.reports)}"
    for report in record.reports:
        yield from _report(case, record, report)


def _report(case: Case, record: Record, report: StreamReport) -> Iterator[str]:
    if report.bytes_in != report.bytes_sent + report.bytes_undelivered:
        yield (
            f"bytes not counted: in {report.bytes_in}, sent {report.bytes_sent}, "
            f"undelivered {report.bytes_undelivered}"
        )
    delivered = len(record.delivered_at_report)
    exact = case.scenario.sending not in {"shields", "stubborn"} and case.scenario.app != "answers"
    if report.bytes_sent != delivered and exact:
        yield f"bytes sent: {report.bytes_sent} reported, {delivered} delivered"
    if report.outcome == "completed" and (report.bytes_undelivered or not record.ended_well):
        yield "reported as completed, and was not"
    if report.reason is CancelReason.SERVER_SHUTDOWN and not record.count(*OUTSIDE):
        yield "reported as cancelled by the server, and was not"
    if news(record.app_error) and report.error is None:
        yield f"report without the app's own error: {record.app_error!r}"


# What was accepted is written or counted.


def _delivery(case: Case, record: Record) -> Iterator[str]:
    body = b"".join(record.delivered)
    at = 0
    for sent in record.sends:
        if body.startswith(sent.body, at):
            at += len(sent.body)
    if at != len(body):
        yield f"bytes out of order: {body[:40]!r}"
    if not record.reports or case.scenario.app in UNCOUNTED:
        return
    if body != record.delivered_at_report and not _uncancellable(case):
        yield "written after the report"
    report = record.reports[0]
    accepted = sum(len(sent.body) for sent in record.sends if _accepted(case, record, sent))
    offered = sum(len(sent.body) for sent in record.sends)
    if not accepted <= report.bytes_in <= offered:
        yield f"bytes not counted: in {report.bytes_in}, of {accepted} accepted, {offered} offered"
    sound = not record.count("leave", "oserror", "runtimeerror")
    quick = case.scenario.sending in {"quick", "yields"}
    if sound and quick and record.count(*OUTSIDE) <= 1 and report.bytes_undelivered:
        yield f"accepted, and not written: {report.bytes_undelivered} bytes"


def _accepted(case: Case, record: Record, sent: Sent) -> bool:
    """Return True if the middleware must count this message.

    If the app waits in `receive`, a `send` that comes after the end of the stream may be ignored.
    """
    if not sent.returned:
        return False
    first = min((step for _, step in record.happened), default=None)
    may_be_ignored = case.scenario.app in LISTENING and (
        first is not None or case.scenario.sending in {"stalls", "stubborn"}
    )
    return not may_be_ignored or (first is not None and (sent.last_step or 0) < first)


# The right exception comes out.


def _exceptions(case: Case, record: Record) -> Iterator[str]:
    error, app_error = record.error, record.app_error
    outside = [step for name, step in record.happened if name in OUTSIDE]
    assert record.app_ended is not None  # the app has started
    late = [step for step in outside if step > record.app_ended]
    if is_cancellation(error) and not outside:
        yield f"cancelled by nobody outside: the app ended with {app_error!r}"
    elif late and not is_cancellation(error) and case.scenario.loop != "trio":
        yield f"outside cancellation lost after the app's end: came out {error!r}"
    elif is_cancellation(error) and (late or _cancelled_again(record)):
        pass
    elif own := news(app_error):
        if list(map(id, own)) != list(map(id, news(error))):
            yield f"app's own exception lost: {app_error!r}; came out {error!r}"
    elif outside and not is_cancellation(error) and not _may_be_lost(case, record):
        yield f"outside cancellation lost: {app_error!r} came out as {error!r}"
    elif not is_cancellation(error):
        yield from _write_errors(record)


def _cancelled_again(record: Record) -> bool:
    """Return True if the next `await` after the app is cancelled.

    From Python 3.13 on, a task group that raises a group of errors has the task cancelled again, if
    it was cancelled from outside meanwhile.
    """
    group = isinstance(record.app_error, ExceptionGroup)
    return sys.version_info >= (3, 13) and group and record.count(*OUTSIDE) > 0


def _may_be_lost(case: Case, record: Record) -> bool:
    """Return True if the app has swallowed the cancellation from outside, or a scope might have.

    On trio a task is cancelled when it next waits. A scope of the middleware that is cancelled as
    well catches that, and the server's scope has to wait for the server's next `await`.
    """
    if record.swallowed:
        return True
    return case.scenario.loop == "trio" and (
        record.app_error is None or record.reports[0].reason is not CancelReason.SERVER_SHUTDOWN
        if record.reports
        else True
    )


def _write_errors(record: Record) -> Iterator[str]:
    """Check a mistake of the app's that the server has found: somebody has to hear of it."""
    found = record.reports[0].error if record.reports else None
    if found is not None and (isinstance(found, OSError) or found not in record.write_errors):
        found = None
    assert record.app_ended is not None
    told = [sent.last_step for sent in record.sends if sent.error is found]
    if record.error is not None and record.error is not found:
        yield f"unexpected exception: {record.error!r}; the app ended with {record.app_error!r}"
    elif found is not None and record.error is None and not told:
        yield f"error of the write lost: {found!r}"
    elif record.error is not None and any(s is not None and s < record.app_ended for s in told):
        yield f"error of the write raised twice: {record.error!r}"


# Each cancellation from outside comes out once.


def _balance(case: Case, record: Record) -> Iterator[str]:
    if case.scenario.loop == "trio":
        server, limit = (record.count("cancel") > 0, record.count("timeout") > 0)
        if (record.scopes[0] and not server) or (record.scopes[1] and not limit):
            yield f"caught by another scope: {record.scopes}"
        if is_cancellation(record.error) and record.outcome is not None:
            yield f"not caught by its scope: {record.outcome!r}"
        return
    cancels = record.count("cancel")
    if record.cancelling != cancels:
        yield f"cancellations not balanced: cancelling() {record.cancelling}, {cancels} outside"
    if is_cancellation(record.error):
        only_limit = not cancels and record.count("timeout")
        expected = TimeoutError if only_limit else asyncio.CancelledError
        if not isinstance(record.outcome, expected):
            yield f"outside of the time limit: {record.outcome!r}"
    elif record.error is not None and record.outcome is not record.error:
        yield f"outside of the time limit: {record.outcome!r}"
