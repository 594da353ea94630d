"""The bytes delivered are a prefix of the bytes sent. A complete response has all of them (D1)."""

from __future__ import annotations

import pytest

from sse_batching import CancelReason
from tests.properties.harness import play
from tests.properties.schedule import UNIT, Fault, Schedule, Step, for_any_schedule
from tests.properties.trace import Call, Trace

pytestmark = pytest.mark.anyio


def missing(trace: Trace) -> list[Call]:
    """Return the chunks that were not delivered although their `send` returned.

    Fail unless the bytes delivered are whole chunks in the order of the calls, each once, and end
    at the first lost chunk.
    """
    rest = trace.delivered
    lost: list[Call] = []
    for call in trace.chunks:
        if rest.startswith(call.body):
            assert not lost, "a chunk was delivered, and an earlier one was not"
            rest = rest.removeprefix(call.body)
        elif call.outcome == "returned":  # otherwise the chunk may have been accepted or not
            lost.append(call)
    assert rest == b"", "bytes were delivered that were not sent, or not in this place"
    return lost


@for_any_schedule("refuse", examples=350)
async def test_what_is_delivered_is_a_prefix_of_what_was_sent(schedule: Schedule) -> None:
    """Only a stream that was closed early loses chunks, and only its last ones."""
    trace = await play(schedule)
    lost = missing(trace)
    (report,) = trace.reports
    if report.reason is None:
        assert not lost


@for_any_schedule("leave", "fail", "stall", "refuse", examples=210)
async def test_a_server_that_shuts_down_gets_all_that_was_accepted(schedule: Schedule) -> None:
    """If writes are quick, all that the app sent is delivered although the app is cancelled."""
    trace = await play(schedule)
    lost = missing(trace)
    (report,) = trace.reports
    quick = all(time is None or time <= 17 * UNIT for time in schedule.writes)
    if quick and trace.cancelled <= trace.app_ended:
        assert report.reason in {None, CancelReason.SERVER_SHUTDOWN}
        assert not lost


async def test_a_shutdown_while_the_rest_is_written_loses_nothing() -> None:
    """If the server cancels during a write after the app has ended, the write gets time to finish.

    A write that is in flight while the app still runs gets the same time.
    """
    schedule = Schedule(
        producers=((Step("chunk", 1),),),
        writes=(None, 4 * UNIT),
        end="raise",
        faults=(Fault("cancel", 2 * UNIT),),
    )
    trace = await play(schedule)
    assert trace.cancelled < trace.ended
    assert not missing(trace)


@for_any_schedule("refuse", examples=210)
async def test_comments_stand_between_events_only(schedule: Schedule) -> None:
    """A keep-alive comment comes after the end of an event, or first of all."""
    trace = await play(schedule)
    before = b""
    for write in trace.writes:
        if write.is_comment:
            assert before == b"" or before.endswith(b"\n\n")
        elif write.is_body:
            before += write.body


@for_any_schedule("refuse", examples=210)
async def test_the_report_counts_what_came_and_what_went(schedule: Schedule) -> None:
    """Bytes in equal bytes delivered plus undelivered. The recorded bytes are the first of them."""
    trace = await play(schedule)
    (report,) = trace.reports
    closed_at = trace.closed_at
    sent = [write for write in trace.writes if write.is_body and write.taken]
    if closed_at is not None:  # a write that ends at that time may have been aborted
        sent = [write for write in sent if write.ended.time != closed_at][: report.writes]
    comments = sum(len(write.body) for write in sent if write.is_comment)
    if closed_at is None or report.writes == len(sent):
        assert (report.writes, report.bytes_sent) == (len(sent), sum(len(w.body) for w in sent))
        assert report.bytes_in == report.bytes_sent - comments + report.bytes_undelivered
    assert trace.delivered.startswith(report.recorded) or report.recorded.startswith(
        trace.delivered[: len(report.recorded)]
    )
    limit = schedule.options["record_bytes"]
    assert len(report.recorded) == min(limit, report.bytes_in)
    assert report.recorded_all is (report.bytes_in <= limit)
