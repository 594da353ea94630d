"""What is wrong with the record of a case.

The rules are those of docs/guarantees.md. This module shares no code with the package.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import trio

from sse_batching import CancelReason, ClientDisconnected, StreamReport

from .apps import OwnError
from .case import OUTSIDE, Case
from .record import Record

CANCELLATIONS = (asyncio.CancelledError, trio.Cancelled)
LISTENING = frozenset({"listens", "receives"})


def faults(case: Case, record: Record) -> list[str]:
    """Return what is wrong, one line for each fault. The first words name the kind."""
    return list(_faults(case, record))


def _faults(case: Case, record: Record) -> Iterator[str]:
    if record.hangs is not None:
        yield f"hangs: {record.hangs}"
        return
    if record.returned is None or not record.app_started:
        return  # cancelled before the first step of the request
    yield from _leftovers(case, record)
    yield from _reports(case, record)
    yield from _delivery(case, record)
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


def is_news(error: BaseException | None) -> bool:
    """Return True if the app raised something of its own, alone or in a group."""
    return error is not None and not all(
        isinstance(part, (*CANCELLATIONS, ClientDisconnected)) for part in leaves(error)
    )


def _uncancellable(case: Case) -> bool:
    return case.scenario.sending == "stubborn"


# Everything is stopped.


def _leftovers(case: Case, record: Record) -> Iterator[str]:
    left = [name for name in record.left if not (_uncancellable(case) and "_run" in name)]
    if left:
        yield f"left behind: {left}"
    if record.left_later:
        yield f"left for ever: {record.left_later}"
    if record.cancelled_later:
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
    if is_news(record.app_error) and report.error is None:
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
    if not record.reports:
        return
    if body != record.delivered_at_report and case.scenario.app != "leaves_tasks":
        if not _uncancellable(case):
            yield "written after the report"
    report = record.reports[0]
    first_event = min((step for _, step in record.happened), default=None)
    accepted = 0
    for sent in record.sends:
        if not sent.returned or case.scenario.app in {"leaves_tasks", "answers"}:
            continue
        assert sent.last_step is not None
        ignored = case.scenario.app in LISTENING or case.scenario.sending in {"stalls", "stubborn"}
        if not ignored or (first_event is None or sent.last_step < first_event):
            accepted += len(sent.body)
    if not ignored_all(case) and report.bytes_in < accepted:
        yield f"bytes not counted: in {report.bytes_in}, accepted {accepted}"
    offered = sum(len(sent.body) for sent in record.sends)
    if report.bytes_in > offered:
        yield f"bytes not counted: in {report.bytes_in}, offered {offered}"
    sound = not record.count("leave", "oserror", "runtimeerror")
    quick = case.scenario.sending in {"quick", "yields"}
    if sound and quick and record.count(*OUTSIDE) <= 1 and report.bytes_undelivered:
        yield f"accepted, and not written: {report.bytes_undelivered} bytes"


def ignored_all(case: Case) -> bool:
    return case.scenario.app in {"leaves_tasks", "answers"}


# The right exception comes out.


def _exceptions(case: Case, record: Record) -> Iterator[str]:
    error, app_error = record.error, record.app_error
    outside = [step for name, step in record.happened if name in OUTSIDE]
    late = [s for s in outside if record.app_ended is None or s > record.app_ended]
    unseen = _unseen_write_error(record)
    if case.scenario.loop != "trio" and late:
        if not is_cancellation(error):
            yield f"outside cancellation lost after the app's end: came out {error!r}"
        return
    if is_news(app_error):
        if error is not app_error and not (late and is_cancellation(error)):
            yield f"app's own exception lost: {app_error!r}; came out {error!r}"
        return
    if is_cancellation(error) and not outside:
        yield f"cancelled by nobody outside; the app ended with {app_error!r}"
        return
    if app_error is not None and outside and not is_cancellation(error):
        seen = bool(record.swallowed)
        if not seen and not _both(case, record):
            yield f"outside cancellation lost: {app_error!r} came out as {error!r}"
            return
    if error is not None and not is_cancellation(error) and error is not unseen:
        yield f"unexpected exception: {error!r}; the app ended with {app_error!r}"
    if unseen is not None and error is None:
        yield f"error of the write lost: {unseen!r}"


def _both(case: Case, record: Record) -> bool:
    """Return True if trio's scope of the middleware may catch a cancellation from outside, too."""
    return case.scenario.loop == "trio" and record.count("leave", "oserror", "runtimeerror") > 0


def _unseen_write_error(record: Record) -> BaseException | None:
    """Return the mistake of the app's that ended the stream, if no `send` has raised it."""
    error = record.reports[0].error if record.reports else None
    if error is None or error not in record.write_errors or isinstance(error, OSError):
        return None
    return None if any(sent.error is error for sent in record.sends) else error


# Each cancellation from outside comes out once.


def _balance(case: Case, record: Record) -> Iterator[str]:
    if case.scenario.loop == "trio":
        server, limit = (record.count("cancel") > 0, record.count("timeout") > 0)
        if (record.scopes[0] and not server) or (record.scopes[1] and not limit):
            yield f"another scope has caught it: {record.scopes}"
        return
    cancels = record.count("cancel")
    if record.cancelling != cancels:
        yield f"cancelling() is {record.cancelling}, and {cancels} came from outside"
    if is_cancellation(record.error):
        only_limit = not cancels and record.count("timeout")
        expected = TimeoutError if only_limit else asyncio.CancelledError
        if not isinstance(record.outcome, expected):
            yield f"outside of the time limit: {record.outcome!r}"
    elif record.error is not None and record.outcome is not record.error:
        yield f"outside of the time limit: {record.outcome!r}"
