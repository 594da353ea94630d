"""The end of a request: one loop that no cancellation leaves half way."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from math import inf
from typing import Final

import anyio

from ._buffer import Buffer
from ._cause import SERVER_CANCELLED
from ._disconnect import clear_tracebacks, follows_disconnect
from ._exchange import Exchange
from ._states import COMPLETED
from .report import Outcome, StreamReport

logger: Final = logging.getLogger("sse_batching")

CLEANUP_TIME: Final = 1.0
"""Seconds for writing what is buffered when the request is cancelled, and then for each task of
this package to end. A task that is stuck in a `send` which cannot be cancelled (hypercorn on trio)
is left to the server."""


async def finish(exchange: Exchange, error: BaseException | None) -> BaseException | None:
    """End the request, and return what the middleware raises, or None.

    `error`: what the app raised.

    Whatever is cancelled meanwhile, by whom and how often: what the app's `send` had accepted is
    written or counted as undelivered, everything of this package is stopped, and there is one
    report. An exception of the app's own comes out. So does each cancellation from outside, once. A
    cancellation of our own does not.

    If the app ends with `GeneratorExit`, `KeyboardInterrupt` or `SystemExit`, nothing is awaited,
    and there is no report.
    """
    try:
        cancelled = anyio.get_cancelled_exc_class()
    except RuntimeError:  # no event loop runs: a garbage collection closes the app
        _abandon(exchange)
        return error
    cancellation, other = split_cancellation(error, cancelled)
    if other is not None and not isinstance(other, Exception):
        _abandon(exchange)
        return error
    try:
        return await _End(exchange, error, cancellation, other, cancelled).run()
    except (GeneratorExit, KeyboardInterrupt, SystemExit):
        _abandon(exchange)
        raise


def _abandon(exchange: Exchange) -> None:
    """Stop everything, and await nothing: there may be no event loop left. A garbage collection
    closes the request, or KeyboardInterrupt ends the process."""
    exchange.app_task.app_ended(cancelled=False)
    with suppress(RuntimeError):  # the event loop is closed
        exchange.close(SERVER_CANCELLED)
    with suppress(RuntimeError):
        exchange.stop()


def split_cancellation(
    error: BaseException | None, cancelled: type[BaseException]
) -> tuple[BaseException | None, BaseException | None]:
    """Return the part of an exception that is a cancellation, and the other part.

    `cancelled`: the class of a cancellation. A nursery of trio's raises a group of its tasks'
    cancellations and other exceptions.
    """
    if isinstance(error, cancelled):
        return error, None
    if isinstance(error, BaseExceptionGroup):
        with suppress(RecursionError):  # thousands of groups in each other
            return error.split(cancelled)
    return None, error


class _End:
    """Awaits each step of the end until the step has ended, however often it is interrupted."""

    def __init__(
        self,
        exchange: Exchange,
        error: BaseException | None,
        cancellation: BaseException | None,
        other: BaseException | None,
        cancelled: type[BaseException],
    ) -> None:
        # Asked for once: when a garbage collection closes the request, no event loop may run.
        self._cancelled_class = cancelled
        self._exchange = exchange
        self._app_task = exchange.app_task
        self._error = error  # what the app raised, in two parts:
        self._cancellation = cancellation
        self._other = other
        self._cancelled = False  # True once the request is cancelled from outside
        self._late: BaseException | None = None  # such a cancellation, if the app had ended
        self._comes_again = False  # True if `_late` comes again at the next checkpoint
        self._reported = False

    async def run(self) -> BaseException | None:
        exchange, app_task = self._exchange, self._app_task
        cancelled_outside = app_task.app_ended(cancelled=self._cancellation is not None)
        exchange.stop_notifying()
        if cancelled_outside:
            self._cancelled = True
            exchange.close(SERVER_CANCELLED)
        elif self._cancellation is not None:  # our own: nobody has to see it
            self._cancellation, self._error = None, self._other
        exchange.clear_kept_tracebacks(frames=self._other is None or self._follows_disconnect)
        response = exchange.response
        if response is not None and not response.writer.closed:
            await self._await(exchange.write_rest)
        exchange.stop()
        if not exchange.stopped:
            await self._await(self._join, seconds=2 * CLEANUP_TIME)
            if not exchange.stopped:
                logger.warning("stream %s: %s cannot be cancelled", exchange.id, self._stuck())
        await self._call_on_close()
        if not app_task.settled:
            await self._await(app_task.settle)
        app_task.uncancel()
        return self._raised()

    async def _await(
        self,
        step: Callable[[], Awaitable[None]],
        *,
        seconds: float | None = None,
        again: bool = True,
    ) -> None:
        """Await `step()`, and `again` if a cancellation interrupts the step.

        `seconds`: the most that the step may take. Without a limit of its own, the step may take
        `CLEANUP_TIME` once the request is cancelled from outside. With a limit, the step is
        shielded from cancel scopes.
        """
        clock = self._exchange.loop.time
        deadline = inf if seconds is None else clock() + seconds
        while True:
            if self._cancelled and deadline == inf:
                deadline = clock() + CLEANUP_TIME
            try:
                limited = anyio.CancelScope(deadline=deadline, shield=True)
                with limited if deadline < inf else nullcontext():
                    await step()
                return
            except self._cancelled_class as cancellation:
                if self._app_task.cancellation_arrived():
                    self._cancelled_outside(cancellation)
            if not again:
                return

    def _cancelled_outside(self, cancellation: BaseException) -> None:
        self._cancelled = True
        if self._cancellation is None and self._late is None:
            self._late = cancellation
            # A cancelled scope of anyio or trio around the request cancels at each checkpoint.
            self._comes_again = anyio.current_effective_deadline() == -inf
        if not self._reported:
            self._exchange.close(SERVER_CANCELLED)

    async def _join(self) -> None:
        await self._exchange.receiver.join(CLEANUP_TIME)
        if self._exchange.response is not None:
            await self._exchange.response.writer.join(CLEANUP_TIME)

    def _stuck(self) -> str:
        return (
            "the server's `send`" if self._exchange.receiver.stopped else "the server's `receive`"
        )

    async def _call_on_close(self) -> None:
        on_close = self._exchange.options.on_close
        report = self._report() if on_close is not None else None
        self._reported = True
        if report is None or on_close is None:
            return

        async def call() -> None:
            try:
                result = on_close(report)
                if inspect.isawaitable(result):
                    await result
            except Exception:
                logger.exception("stream %s: on_close failed", report.stream_id)

        grace_period = self._exchange.options.grace_period
        await self._await(call, seconds=grace_period if self._cancelled else None, again=False)

    @property
    def _follows_disconnect(self) -> bool:
        """True if the app raised an exception only because its client is gone."""
        error = self._other
        return self._exchange.cause is not None and error is not None and follows_disconnect(error)

    def _raised(self) -> BaseException | None:
        """Return what the middleware raises, or None."""
        cause, error = self._exchange.cause, self._other
        own = error is not None and not self._follows_disconnect
        if own and (self._late is None or self._comes_again):
            return self._error
        if self._late is not None:
            if own:
                self._late.__context__ = error
            return self._late
        if error is not None:
            logger.debug("stream %s: swallowed after the disconnect: %r", self._exchange.id, error)
            if self._cancelled and self._cancellation is None:
                # The app raised the swallowed exception in place of the cancellation. asyncio's
                # TaskGroup does that.
                self._cancellation = self._cancelled_class()
        if self._cancellation is not None:
            clear_tracebacks(self._cancellation)  # the server needs none
            return self._cancellation
        if cause is None or not cause.is_app_error or self._exchange.disconnect.app_error_raised:
            return None
        return cause.error

    def _report(self) -> StreamReport | None:
        """Return the report; None if the request neither streamed nor ended early."""
        exchange = self._exchange
        response, cause = exchange.response, exchange.cause
        if exchange.state is not COMPLETED and (cause is None or cause is SERVER_CANCELLED):
            # Code that stops the request by its token may cancel the request's task, too, in a way
            # that looks like the server's: from a thread that waits for the token.
            cause = exchange.stopped_by or cause
        if response is None and cause is None:
            return None
        now = exchange.loop.time()
        outcome: Outcome = "failed"
        if cause is not None:
            outcome = "failed" if cause.is_app_error else "incomplete"
        elif exchange.state is COMPLETED:
            outcome = "completed"
        ended_early_at = exchange.ended_early_at
        buffer = response.buffer if response is not None else Buffer(0, 1)
        first = buffer.stream_began
        recorded = response.recorded if response is not None else b""
        return StreamReport(
            stream_id=exchange.id,
            outcome=outcome,
            reason=cause.reason if cause is not None else None,
            error=self._error if cause is None or cause.error is None else cause.error,
            chunks=buffer.chunks,
            bytes_in=buffer.bytes_in,
            writes=response.writer.writes if response is not None else 0,
            bytes_sent=response.writer.bytes_sent if response is not None else 0,
            bytes_undelivered=buffer.undelivered,
            time_to_first_chunk=None if first is None else first - exchange.began,
            duration=now - exchange.began,
            longest_delay=buffer.longest_delay,
            cancel_latency=None if ended_early_at is None else now - ended_early_at,
            recorded=recorded,
            recorded_all=len(recorded) == buffer.bytes_in,
        )
