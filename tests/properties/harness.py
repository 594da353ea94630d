"""Play a schedule through the whole middleware and record what happens.

The app, the server and the client are simulated, on a virtual clock. All schedules of a test share
one event loop and its clock: a loop for each schedule would be slower.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import trio
from starlette.types import Message, Receive, Scope, Send

from sse_batching import (
    ClientDisconnected,
    SSEBatchingMiddleware,
    StreamReport,
    current_stream,
    current_token,
)
from tests.properties.schedule import Schedule, Step
from tests.properties.trace import NEVER, Call, Moment, Setting, Trace, Write
from tests.support.apps import chunk, last, start

RESET = ConnectionResetError("connection reset by peer")
REFUSED = RuntimeError("the server refuses this message")

PATIENCE = 100.0
"""Seconds after which the client leaves, unless the request has ended before."""


class AppError(Exception):
    """Raised by the app of a schedule that ends with `raise`."""


class Play:
    """One request. `trace` is complete when `run` has returned."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.trace = Trace()
        try:
            self._clock: Callable[[], float] = asyncio.get_running_loop().time
        except RuntimeError:
            self._clock = trio.current_time
        self._tick = 0
        self._epoch = 0.0
        self._scope = anyio.CancelScope()
        self._task: asyncio.Task[Any] | None = None
        self._timeout: float | None = None
        self._under_way = 0
        self._stream: Any = None

    def moment(self) -> Moment:
        self._tick += 1
        return Moment(self._clock() - self._epoch, self._tick)

    async def run(self) -> Trace:
        # Begin at a whole second: otherwise rounding would make equal times differ.
        await anyio.sleep(1 + math.ceil(self._clock()) - self._clock())
        self._epoch = self._clock()
        self._server = Server(self)
        with anyio.fail_after(10 * PATIENCE):
            async with anyio.create_task_group() as tasks:
                for fault in self.schedule.faults:
                    if fault.kind in {"leave", "cancel", "cancel-scope"}:
                        tasks.start_soon(self._strike, fault.kind, fault.at)
                tasks.start_soon(self._strike, "leave", PATIENCE)
                tasks.start_soon(self._request, tasks.cancel_scope)
        return self.trace

    async def _strike(self, kind: str, after: float) -> None:
        await anyio.sleep(after)
        if kind == "leave":
            self._server.leave()
        elif self.trace.ended is NEVER and self.trace.cancelled is NEVER:
            self.trace.cancelled = self.moment()
            if kind == "cancel" and self._task is not None:
                self._task.cancel()
            else:
                self._scope.cancel()

    async def _request(self, done: anyio.CancelScope) -> None:
        middleware = SSEBatchingMiddleware(
            self._app,
            on_close=self._report if self.schedule.report_time else self.trace.reports.append,
            **self.schedule.options,
        )
        scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
        try:
            self._task = asyncio.current_task()
        except RuntimeError:
            self._task = None
        try:
            with self._scope:
                await self._watched(middleware(scope, self._server.receive, self._server.send))
        except asyncio.CancelledError:
            assert self._task is not None
            self.trace.cancelling = self._task.cancelling()
            self._task.uncancel()
        except Exception:  # noqa: BLE001
            assert self.trace.error is not None  # `_watched` has recorded the exception
        done.cancel()

    async def _watched(self, request: Any) -> None:
        try:
            await request
        except BaseException as error:
            self.trace.error = error
            raise
        finally:
            self.trace.ended = self.moment()

    async def _report(self, report: StreamReport) -> None:
        self.trace.reports.append(report)
        await anyio.sleep(self.schedule.report_time)

    # The app.

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._framework(receive, send)
        except BaseException as error:
            self.trace.app_error = error
            raise
        finally:
            self.trace.app_ended = self.moment()

    async def _framework(self, receive: Receive, send: Send) -> None:
        self._send = send
        self._stream = current_stream()
        if self.schedule.asks:
            self._ask()
        if not self.schedule.listens:
            await self._work()
            return
        error: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen, receive, tasks.cancel_scope)
            try:
                await self._work()
            except Exception as caught:  # noqa: BLE001
                error = caught
            tasks.cancel_scope.cancel()
        if error is not None:
            raise error

    async def _work(self) -> None:
        schedule = self.schedule
        await self._call("start", start())
        if len(schedule.producers) == 1:
            await self._produce(schedule.producers[0])
        elif schedule.producers:
            async with anyio.create_task_group() as tasks:
                for steps in schedule.producers:
                    tasks.start_soon(self._produce, steps)
        if schedule.end == "raise":
            self.trace.raised = AppError()
            raise self.trace.raised
        if schedule.end == "last":
            self._timeout = None
            await self._call("last", last(self._letters(schedule.last_size)))
            if schedule.linger:
                await anyio.sleep(schedule.linger)
            self.trace.lingered = True

    async def _produce(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            if step.kind == "chunk":
                await self._call_in_time("chunk", chunk(self._letters(int(step.value))))
            elif step.kind == "flush":
                await self._call_in_time("flush", None)
            elif step.kind == "pause":
                await anyio.sleep(step.value)
            elif step.kind == "ask":
                self._ask()
            elif step.kind == "wait":
                with anyio.move_on_after(step.value):
                    await self._stream.token.wait_async()
            elif step.kind == "timeout":
                self._timeout = step.value
            else:
                self.trace.settings.append(Setting(step.kind, step.value, self.moment()))
                if step.kind == "delay":
                    self._stream.configure(max_delay=step.value)
                else:
                    self._stream.configure(enabled=bool(step.value))

    async def _call_in_time(self, kind: str, message: Message | None) -> None:
        timeout, self._timeout = self._timeout, None
        if timeout is None:
            await self._call(kind, message)
        else:
            with anyio.move_on_after(timeout):
                await self._call(kind, message)

    async def _call(self, kind: str, message: Message | None) -> None:
        body = b"" if message is None else message.get("body", b"")
        call = Call(kind, body, self.moment(), self._under_way == 0)
        self.trace.calls.append(call)
        self._under_way += 1
        try:
            await (self._stream.flush() if message is None else self._send(message))
            call.outcome = "returned"
        except ClientDisconnected as error:
            call.outcome, call.error = "rejected", error
            if not self.schedule.stubborn:
                raise
        except Exception as error:
            call.outcome, call.error = "raised", error
            raise
        except BaseException:
            call.outcome = "cancelled"
            raise
        finally:
            self._under_way -= 1
            call.ended = self.moment()

    def _letters(self, size: int) -> bytes:
        """Return so many bytes of a letter not used before. If there is room, they end an event."""
        number = sum(1 for call in self.trace.calls if call.body)
        letter = bytes([33 + number if number < 25 else 36 + number])  # no colon, no line end
        return letter * (size - 2) + b"\n\n" if size > 2 else letter * size

    def _ask(self) -> None:
        token = current_token()
        trace = self.trace
        if not trace.tokens_asked:
            token.register(lambda: self._token_cancelled(token))
        trace.tokens_asked += 1

    def _token_cancelled(self, token: Any) -> None:
        self.trace.cancellations.append((self.moment(), token.reason))

    async def _listen(self, receive: Receive, framework: anyio.CancelScope) -> None:
        for pause in self.schedule.reads:
            await anyio.sleep(pause)
            await self._receive(receive)
        while await self._receive(receive) != "http.disconnect":
            pass
        for _ in range(2):
            await self._receive(receive)
        framework.cancel()

    async def _receive(self, receive: Receive) -> str:
        message = await receive()
        self.trace.received.append(message)
        return str(message["type"])


class Server:
    """The server's side of ASGI, with the client behind it."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self._trace = play.trace
        self._gone = anyio.Event()
        self._disconnect_sent = False
        self._reading = 0
        self._parts = iter(play.schedule.upload or ((0.0, 0),))
        self._part = next(self._parts, None)
        self._part_at = play.moment().time + self._part[0] if self._part is not None else 0.0
        faults = play.schedule.faults
        self._fails_at = {int(f.at): f.kind for f in faults if f.kind not in {"leave", "cancel"}}

    def leave(self) -> None:
        if self._trace.left is NEVER:
            self._trace.left = self._play.moment()
            self._gone.set()

    async def receive(self) -> Message:
        self._reading += 1
        self._trace.readers = max(self._trace.readers, self._reading)
        try:
            message = await self._message()
        finally:
            self._reading -= 1
        self._trace.uploaded.append(message)
        self._note_unread()
        return message

    def _note_unread(self) -> None:
        trace = self._trace
        ahead = trace.uploaded[len(trace.received) :]
        trace.unread = max(trace.unread, sum(len(m.get("body", b"")) for m in ahead))

    async def _message(self) -> Message:
        if self._part is not None:
            pause = self._part_at - self._play.moment().time
            if pause > 0:
                with anyio.move_on_after(pause):
                    await self._gone.wait()
            if self._trace.left is NEVER:
                size = self._part[1]
                self._part = next(self._parts, None)
                if self._part is not None:
                    self._part_at = self._play.moment().time + self._part[0]
                body = bytes([len(self._trace.uploaded)]) * size
                return {
                    "type": "http.request",
                    "body": body,
                    "more_body": self._part is not None,
                }
        if self._trace.left is NEVER:
            await self._gone.wait()
        if self._disconnect_sent and not self._play.schedule.repeat_disconnect:
            await anyio.sleep_forever()
        self._disconnect_sent = True
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        trace, play = self._trace, self._play
        number = len(trace.writes)
        write = Write(message, play.moment())
        trace.writes.append(write)
        durations = play.schedule.writes
        try:
            await self._transfer(number, durations[number % len(durations)])
        except BaseException as error:
            write.error = error
            raise
        finally:
            write.ended = play.moment()
        write.taken = True
        if write.is_last:
            self.leave()  # uvicorn, too, sends `http.disconnect` after the end of the response

    async def _transfer(self, number: int, duration: float | None) -> None:
        if duration is not None:
            await anyio.sleep(duration)
        fault = self._fails_at.get(number)
        if fault == "stall":
            await self._gone.wait()
        elif fault == "refuse":
            raise REFUSED
        elif any(number >= at for at, kind in self._fails_at.items() if kind == "fail"):
            raise RESET


async def play(schedule: Schedule) -> Trace:
    """Play the schedule and return what happened."""
    return await Play(schedule).run()
