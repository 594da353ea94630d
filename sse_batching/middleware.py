"""The middleware: its options, and one request from beginning to end."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from typing import Final, cast

from ._disconnect import clear_tracebacks
from ._inside import InnerResponse
from ._loop import current_loop
from ._options import (
    Merge,
    OnClose,
    Options,
    event_names,
    media_types as parse_media_types,
    merged_formats,
)
from ._request import ENDED, RequestContext
from ._stream import current_request
from ._types import SCOPE_KEY, ASGI3Application, ASGIApp, Predicate, Receive, Scope, Send

logger: Final = logging.getLogger("sse_batching")


class SSEBatchingMiddleware:
    """Pure-ASGI middleware that batches streamed responses, and tells the app when nobody listens.

        app.add_middleware(SSEBatchingMiddleware)      # Starlette, FastAPI
        app = SSEBatchingMiddleware(app)               # any ASGI app

    *Guaranteed*: without `merge`, the bytes are those that the app sent, in order (with
    `keepalive_interval`, comment lines are added between events). What is not a response of a
    listed media type passes through untouched. When the client leaves, a write fails or stalls, or
    the server cancels the request, the request's `CancellationToken` is cancelled, once, and the
    app's `send` raises `ClientDisconnected`. (If the app also waits in `receive`, the first `send`
    after that may return, and discards its message: the app sees `http.disconnect` in `receive`.)
    docs/guarantees.md has all of it.

    *Not guaranteed*: that a chunk is delivered when `send` returns. The chunk is buffered, and
    `current_stream().flush()` waits for its delivery. Nor that a client which vanishes without a
    word (no FIN, no RST) is noticed before a write stalls: servers buffer some megabytes for such a
    client.

    An instance inside of another one (a mounted app may bring its own) batches what the outer one
    lets pass, with its own options. If both would batch a response, the outer one does, and a
    warning is logged once. Either way the request has one token.

    One instance serves any number of requests at once, in any number of event loops, each in a
    thread of its own.

    Durations are seconds, sizes are bytes. A wrong option raises `TypeError` or `ValueError`,
    naming the option and the value.

    Args:
        app: the ASGI app.
        max_delay: the longest time that a chunk waits for more chunks. The first chunk, and any
            chunk after a quiet `max_delay`, is written at once and begins a burst. No chunk waits
            longer than its burst is old. 0: join only the chunks that arrive during a write.
        max_batch_bytes: flush at this size. Also the bound on what is buffered for a stream, with
            the write in flight. At the bound the app's `send` waits until the server has taken a
            write. The one chunk that crosses the bound is still buffered.
        media_types: the responses to batch, as `type/subtype`. With `merge` or `flush_on`, JSON has
            to be in lines (`application/jsonl`): other JSON cannot be read.
        keepalive_interval: send a comment line when nothing was sent for so long; None: never.
            Only into a `text/event-stream` without `Content-Length` and `Content-Encoding`, and
            only between events.
        send_timeout: a write that takes this long means that the client has stalled; None: no
            limit.
        grace_period: how long an app that asked for its token may clean up. The period begins with
            the token's cancellation. After the period the app sees `http.disconnect` (earlier, if
            the app sends again and waits in `receive`), and is cancelled if it still streams.
        record_bytes: keep the first so many bytes that the app produced, for the report.
        merge: join adjacent text deltas of a batch into one event. None: leave events unchanged.
            `"auto"`: detect the format. Or one or several formats of `sse_batching.formats`. In a
            stream of a detected format, an event that is no text delta is written at once, in one
            write with what is pending, as long as such events are rare. Unknown events pass
            through. docs/merging.md says what this changes for clients, and which responses are
            never merged.
        flush_on: events that are written at once, also without `merge`: the values of their
            `event` field, or of the member `type` of their JSON data.
        max_merged_bytes: the largest size of a merged event.
        enabled: called with the scope of each HTTP request. If it returns False, the response is
            not batched, and passes through untouched. The request still has a token, which is
            cancelled if the client leaves.
        on_close: called with the `StreamReport` when a stream has ended, in the request's task.
            Also called for a request that does not stream, if its token was asked for and the
            request ended early. May be a coroutine function, which is awaited before the middleware
            returns: for at most `grace_period` if the request was cancelled. An `Exception` that it
            raises is logged. Not called when `KeyboardInterrupt`, `SystemExit` or `GeneratorExit`
            ends the app.
    """

    def __init__(
        self,
        app: ASGIApp | ASGI3Application,
        *,
        max_delay: float = 0.05,
        max_batch_bytes: int = 65_536,
        media_types: Collection[str] = ("text/event-stream",),
        keepalive_interval: float | None = None,
        send_timeout: float | None = 30.0,
        grace_period: float = 5.0,
        record_bytes: int = 0,
        merge: Merge = None,
        flush_on: Collection[str] = (),
        max_merged_bytes: int = 16_384,
        enabled: Predicate | None = None,
        on_close: OnClose | None = None,
    ) -> None:
        if not callable(app):
            raise TypeError(f"app must be an ASGI application; got {app!r}")
        self.app = cast("ASGIApp", app)  # asgiref types an app more narrowly than Starlette does
        self._options = Options(
            max_delay=max_delay,
            max_batch_bytes=max_batch_bytes,
            media_types=parse_media_types(media_types),
            keepalive_interval=keepalive_interval,
            send_timeout=send_timeout,
            grace_period=grace_period,
            record_bytes=record_bytes,
            merge=merged_formats(merge),
            flush_on=event_names(flush_on),
            max_merged_bytes=max_merged_bytes,
            enabled=enabled,
            on_close=on_close,
        )
        # A request that is not enabled has a token, and no response that is batched.
        self._options_if_disabled = replace(self._options, media_types=frozenset())
        self._does_nothing_inside: list[Options] = []  # the outer options that were logged

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        options = self._options
        if options.enabled is not None and not options.enabled(scope):
            options = self._options_if_disabled
        if SCOPE_KEY in scope and scope[SCOPE_KEY].stage is not ENDED:
            await self._call_inside(scope[SCOPE_KEY], options, scope, receive, send)
            return
        loop = current_loop()
        request = RequestContext(scope, receive, send, options, loop)
        scope[SCOPE_KEY] = request
        before = current_request.set(request)
        raised: BaseException | None = None
        try:
            if loop.needs_cancel_scope:
                with loop.app_task(request.task).scope:
                    await self.app(scope, request.receive, request.send)
            else:
                await self.app(scope, request.receive, request.send)
        except BaseException as error:
            raised = error if request.exchange is None else await request.finish(error)
            if raised is error:
                raised = None  # this frame is in its traceback
                raise
            clear_tracebacks(error)
        else:
            if request.exchange is not None:
                raised = await request.finish(None)
        finally:
            request.stage = ENDED
            scope.pop(SCOPE_KEY, None)
            try:  # noqa: SIM105 (a context manager would cost every request more)
                current_request.reset(before)
            except ValueError:
                pass  # a garbage collection closes this coroutine, in another context
        if raised is not None:  # outside the `except`, so that Python sets no `__context__`
            try:
                raise raised
            finally:
                del raised  # this frame is in its traceback

    async def _call_inside(
        self, request: RequestContext, options: Options, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Call the app inside of another instance of the middleware, which serves the request."""
        inner = InnerResponse(request, options, scope, send, self._warn_once)
        try:
            await self.app(scope, receive, inner.send)
        except Exception:
            await inner.finish()
            raise
        await inner.finish()

    def _warn_once(self, outer: Options) -> None:
        """Log that another instance around this one, with these options, does this one's work."""
        if any(outer is known for known in (self._options, *self._does_nothing_inside)):
            return
        self._does_nothing_inside.append(outer)
        logger.warning(
            "an SSEBatchingMiddleware inside another one does nothing for a response that both "
            "would batch: the options of the outer one apply. Remove one of the two, or let the "
            "outer one leave these responses alone, by its media_types or by enabled="
        )
