"""One batched response: which messages are buffered, and which are written between batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ._buffer import Buffer
from ._cause import Cause
from ._loop import Loop
from ._merging import Merger
from ._options import Options
from ._policy import ends_response, takes_comments
from ._types import BODY, Message, Send
from ._writer import BatchWriter

ALLOWANCE: Final = 0.0001
"""Seconds that an app may run in a loop iteration that other tasks have already made too long. To
yield costs as much as several events."""

CHUNK_KEYS: Final = frozenset({"type", "body", "more_body"})


class BatchedResponse:
    """Buffers the chunks of one response, and has other messages written in order between batches.

    Bytes in and bytes out differ when events are merged or comments are added. `buffer` counts
    bytes in, `writer` counts bytes out.
    """

    __slots__ = (
        "_batching",
        "_iteration",
        "_latency",
        "_loop",
        "_record_left",
        "_recorded",
        "buffer",
        "may_run_until",
        "writer",
    )

    def __init__(
        self,
        send: Send,
        start: Message,
        options: Options,
        loop: Loop,
        merger: Merger | None,
        close: Callable[[Cause | None], None],
    ) -> None:
        keepalive_interval = options.keepalive_interval
        if keepalive_interval is not None and not takes_comments(start):
            keepalive_interval = None
        self.buffer = Buffer(options.max_delay, options.max_batch_bytes, merger)
        self.writer = BatchWriter(
            send,
            self.buffer,
            loop,
            close,
            send_timeout=options.send_timeout,
            keepalive_interval=keepalive_interval,
        )
        self._loop = loop
        self._latency = loop.latency
        self.may_run_until = 0.0
        """Up to this time the app need not yield, however long the loop iteration has lasted."""
        self._iteration = 0  # the loop iteration that `must_yield` saw last
        self._record_left = options.record_bytes
        self._recorded: list[bytes] | None = [] if options.record_bytes else None
        self._batching = options.batching
        if not self._batching:
            self.buffer.stop_merging()

    def configure(self, options: Options) -> None:
        """Apply changed options to the chunks that follow. A shorter `max_delay` also applies to
        the waiting batch."""
        self._batching = options.batching
        self.buffer.set_fast_path(is_open=False)  # until the next chunk has looked at the options
        if not options.batching:
            self.buffer.stop_merging()
        if options.max_delay != self.buffer.max_delay:
            self.writer.set_max_delay(options.max_delay)

    async def send(self, message: Message) -> None:
        """Buffer a chunk, and wait while the buffer is full. Write any other message after the
        batch, and wait for its delivery.

        The slow path of `send`; `Buffer.add_nowait` is the fast path. Call this only while the
        writer is `accepting`.
        """
        body = message.get("body", b"")
        is_body = message["type"] == BODY
        if is_body and isinstance(body, bytes | bytearray | memoryview):
            body = bytes(body)  # the app may reuse its buffer, and daphne accepts only bytes
            if not message.get("more_body", False):
                await self._send_last(message, body)
            elif message.keys() <= CHUNK_KEYS:
                await self._send_chunk(body)
            else:
                self._record(body)
                await self._send_unchanged(message, len(body))
        else:
            has_body = is_body or message["type"] == "http.response.zerocopysend"
            await self._send_unchanged(message, 0 if has_body else None)

    async def _send_chunk(self, body: bytes) -> None:
        writer, buffer = self.writer, self.buffer
        now = self._loop.time()
        # An empty first chunk can be meant to send the headers (daphne). Other empty chunks are
        # dropped.
        if body or buffer.untouched:
            self._record(body)
            buffer.add(body, now)
        # Reopen the fast path, unless another producer is queued, bytes must still be recorded, or
        # each chunk is to be written by itself. The chunk behind an empty first one is noted as the
        # first of the stream, which the fast path does not do.
        buffer.set_fast_path(
            is_open=self._batching
            and not (writer.queued or self._record_left)
            and buffer.stream_began is not None
        )
        if not self._batching:
            await writer.write_through(None)
        elif buffer.full:
            await writer.drain()
        elif now > self._latency.limit and self.must_yield(now):
            await self._loop.checkpoint()

    async def _send_last(self, message: Message, body: bytes) -> None:
        if body:
            self._record(body)
            self.buffer.add(body, self._loop.time())
        await self.writer.write_through(message, last=True)

    async def _send_unchanged(self, message: Message, size: int | None) -> None:
        self.buffer.stop_merging()  # the message may carry a part of an event
        await self.writer.write_through(message, ends=ends_response(message), size=size)

    def must_yield(self, now: float) -> bool:
        """Return True if the app has to let other tasks run before it goes on. For a time that is
        past `LoopLatency.limit`.

        An app that never awaits anything else would freeze the event loop.
        """
        latency = self._latency
        if latency.too_long_past_limit(now):
            if self._iteration == latency.iteration:
                return now >= self.may_run_until
            self.may_run_until = now + ALLOWANCE  # the first check in this loop iteration
        self._iteration = latency.iteration
        return False

    @property
    def recorded(self) -> bytes:
        """The first `record_bytes` bytes that the app produced."""
        return b"".join(self._recorded or ())

    def _record(self, body: bytes) -> None:
        if self._recorded is not None and self._record_left:
            kept = body[: self._record_left]
            self._record_left -= len(kept)
            self._recorded.append(kept)
