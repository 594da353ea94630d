"""The app of one request: a small interpreter for the programs of a plan."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
from starlette.responses import StreamingResponse

from sse_batching import ClientDisconnected, current_stream, current_token, get_token
from tests.fuzz.loops import Job
from tests.fuzz.plan import Producer, Request, Step
from tests.fuzz.seen import AppError, Message, Seen, Sent, ServerError, ServerGone
from tests.fuzz.server import Shared, copied, named, short

CLEANUP = 0.01
ALLOWED = (ClientDisconnected, ServerError, ServerGone)
"""What the app's `send` may raise, besides a cancellation."""


class AppSide:
    """Runs the app of one request, and notes what it sees."""

    def __init__(self, request: Request, seen: Seen, shared: Shared) -> None:
        self.plan = request.app
        self.seen = seen
        self.shared = shared
        self.world = shared.world
        self._cancelled = anyio.get_cancelled_exc_class()
        self._scope: dict[str, Any] = {}
        self._receive: Callable[[], Awaitable[Message]]
        self._send: Callable[[Message], Awaitable[None]]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        seen = self.seen
        seen.app_began = True
        self._scope, self._receive, self._send = scope, receive, send
        with contextlib.suppress(LookupError):  # not enabled
            seen.stream_id = current_stream().id
        try:
            if self.plan.kind == "starlette":
                await self._starlette()
            else:
                await self._raw()
        except BaseException as error:
            seen.app_raised = error
            raise
        finally:
            seen.app_ended = self.world.now()
            self.shared.note(seen.number, "app ends:", named(seen.app_raised))

    # Kinds of apps.

    async def _starlette(self) -> None:
        producer = self.plan.producers[0] if self.plan.producers else Producer()
        response = StreamingResponse(self._generator(producer), media_type=self.plan.media_type)
        await response(self._scope, self._receive_noted, partial(self._send_noted, 0))

    async def _generator(self, producer: Producer) -> AsyncIterator[bytes]:
        self.seen.generator = "open"
        try:
            for step in producer.steps:
                await self._pause(step)
                if step.do == "send":
                    yield bytes(step.body)
                elif step.do not in ("empty", "extra", "debug"):
                    await self._do(0, step)
        finally:
            self.seen.generator = "closed"

    async def _raw(self) -> None:
        start = {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", self.plan.media_type.encode())],
        }
        await self._send_noted(0, start)
        main, *others = self.plan.producers or (Producer(),)
        if self.plan.in_group:
            await self._in_groups(main, others)
        else:
            await self._in_tasks(main, others)

    async def _in_groups(self, main: Producer, others: list[Producer]) -> None:
        async with anyio.create_task_group() as group:
            if self.plan.listener:
                group.start_soon(self._listen, group.cancel_scope.cancel)
            async with anyio.create_task_group() as producers:
                for number, other in enumerate(others, 1):
                    producers.start_soon(self._produce, number, other)
                await self._produce(0, main)
                if not self.plan.joins:
                    await self._last()
            if self.plan.joins:
                await self._last()
            group.cancel_scope.cancel()

    async def _in_tasks(self, main: Producer, others: list[Producer]) -> None:
        jobs = [
            self.world.spawn(partial(self._produce, number, other))
            for number, other in enumerate(others, 1)
        ]
        listener: Job | None = None
        if self.plan.listener:
            listener = self.world.spawn(partial(self._listen, partial(_cancel_all, jobs)))
        try:
            await self._produce(0, main)
            if not self.plan.joins:
                await self._last()
            for job in jobs:
                await job.ended.wait()
                if isinstance(job.error, Exception):
                    raise job.error
            if self.plan.joins:
                await self._last()
        finally:
            self.seen.jobs += jobs  # not awaited here: a second cancellation may come
            _cancel_all(jobs)
            if listener is not None:
                self.seen.jobs.append(listener)
                listener.cancel()

    async def _listen(self, stop: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):
            while (await self._receive_noted())["type"] != "http.disconnect":
                pass
            if self.plan.listener == "stop":
                stop()

    async def _last(self) -> None:
        if self.plan.last != "none":
            body = (
                f"data: <last {self.seen.number}>\n\n".encode() if self.plan.last == "full" else b""
            )
            message = {"type": "http.response.body", "body": body, "more_body": False}
            await self._send_noted(0, message)

    # A producer's program.

    async def _produce(self, number: int, producer: Producer) -> None:
        swallowed = False
        for step in producer.steps:
            try:
                await self._pause(step)
                await self._do(number, step)
            except self._cancelled:
                if producer.on_cancel == "swallow" and not swallowed:
                    swallowed = True
                    self.seen.swallowed += 1
                    continue
                await self._clean_up(producer)
                raise
            except ClientDisconnected:
                if producer.on_disconnect == "raise":
                    raise AppError("after the disconnect") from None
                if producer.on_disconnect == "return":
                    return
                if producer.on_disconnect != "go_on":
                    raise

    async def _clean_up(self, producer: Producer) -> None:
        if producer.on_cancel == "cleanup":
            await anyio.sleep(CLEANUP)
        elif producer.on_cancel == "raise":
            raise AppError("in the cleanup")

    async def _pause(self, step: Step) -> None:
        if step.wait:
            await anyio.sleep(step.wait)
        for _ in range(step.turns):
            await anyio.lowlevel.checkpoint()

    async def _do(self, number: int, step: Step) -> None:
        match step.do:
            case "send":
                await self._send_step(number, step)
            case "empty":
                await self._send_noted(number, body_of(b""))
            case "extra":
                await self._send_noted(number, {**body_of(step.body), "x-unknown": 1})
            case "debug":
                await self._send_noted(number, {"type": "http.response.debug", "info": {}})
            case "raise":
                raise AppError("planned")
            case "receive":
                with anyio.move_on_after(step.number):
                    await self._receive_noted()
            case "background":
                self.seen.jobs.append(self.world.spawn(partial(self._background, number, step)))
            case "sleep":
                await anyio.sleep(step.number)
            case _:
                await self._use_stream(step)

    async def _use_stream(self, step: Step) -> None:
        try:
            stream = current_stream()
        except LookupError:  # not enabled, or the request has ended
            return
        self.shared.note(self.seen.number, "app:", step)
        match step.do:
            case "ask":
                self._ask(step.name)
            case "register":
                self._register(step.name)
            case "stop" if self.seen.token is not None:
                self.seen.own_stop = True
                if step.name == "thread":
                    thread = threading.Thread(target=self.seen.token.cancel)
                    thread.start()
                    thread.join()
                else:
                    self.seen.token.cancel()
            case "flush":
                await stream.flush()
            case "configure":
                enabled = {"on": True, "off": False}.get(step.name)
                stream.configure(
                    max_delay=None if step.number < 0 else step.number, enabled=enabled
                )
            case "wait_token" if self.seen.token is not None:
                with anyio.move_on_after(step.number):
                    await self.seen.token.wait_async()

    def _ask(self, how: str) -> None:
        token = current_token() if how == "context" else get_token(self._scope)
        if self.seen.token is not None and self.seen.token is not token:
            self.seen.strange.append("token: two tokens for one request")
        if self.seen.token is None:
            self.seen.token, self.seen.asked = token, self.world.now()
            self._register("callback")

    def _register(self, what: str) -> None:
        token = self.seen.token
        if token is None:
            return
        if what in ("", "callback"):
            self.seen.registered += 1
            token.register(_called, self.seen, self.shared)
        elif what == "raises":
            token.register(_raise)
        else:
            task = asyncio.current_task()
            assert task is not None
            if what == "cancel_task":
                token.register(task.cancel)
            else:
                soon: Any = asyncio.get_running_loop().call_soon_threadsafe
                token.register(soon, task.cancel)

    async def _background(self, number: int, step: Step) -> None:
        await anyio.sleep(step.number)
        if step.body:
            with contextlib.suppress(Exception):
                await self._send_noted(number, body_of(step.body), in_background=True)

    # `send` and `receive`, noted.

    async def _send_step(self, number: int, step: Step) -> None:
        if step.name == "bytearray":
            body = bytearray(step.body)
            await self._send_noted(number, body_of(body))
            body[:] = b"!" * len(body)
        else:
            body_: Any = memoryview(step.body) if step.name == "memoryview" else step.body
            await self._send_noted(number, body_of(body_))

    async def _send_noted(
        self, producer: int, message: Message, *, in_background: bool = False
    ) -> None:
        seen, before = self.seen, copied(message)
        sent = Sent(
            producer, before, self.world.now(), self.world.turns, self.shared.tick(), in_background
        )
        seen.sent.append(sent)
        number = len(seen.sent) - 1
        self.shared.note(seen.number, f"send {number} by p{producer}:", short(message))
        # No local variable for the task: the frame would hold the task, whose exception holds the
        # frame, and the generator would live until a garbage collection.
        seen.sending.append(self.world.current())
        try:
            await self._send(message)
        except BaseException as error:
            sent.error = error
            self.shared.note(seen.number, f"send {number} raises", named(error))
            if not isinstance(error, (*ALLOWED, GeneratorExit, self._cancelled)):
                seen.strange.append(f"send raises {type(error).__name__}: {error}")
            raise
        finally:
            seen.sending.remove(self.world.current())
        sent.returned, sent.return_order = self.world.now(), self.shared.tick()
        sent.at_once = sent.turn == self.world.turns
        self.shared.note(seen.number, f"send {number} returns")
        sent.delivered_before = sum(
            len(taken.message.get("body", b"")) for taken in seen.taken if taken.result == "taken"
        )
        sent.changed = copied(message) != before

    async def _receive_noted(self) -> Message:
        seen = self.seen
        since = self.world.now()
        if seen.waited_since is None:
            seen.waited_since = since
        try:
            message = await self._receive()
        except Exception as error:
            seen.receive_errors.append(error)
            raise
        self.shared.note(seen.number, "app receives", message["type"])
        seen.received.append(message)
        if message["type"] == "http.disconnect" and seen.disconnect_got is None:
            seen.disconnect_got = self.world.now()
        return message


def body_of(body: Any) -> Message:
    """Return the message of a chunk."""
    return {"type": "http.response.body", "body": body, "more_body": True}


def _called(seen: Seen, shared: Shared) -> None:
    """Note the cancellation of a token. A method would keep the app alive as long as the token."""
    seen.calls.append(shared.world.now())
    shared.note(seen.number, "token cancelled:", seen.token and seen.token.reason)


def _raise() -> None:
    raise ValueError("a callback of the app's")


def _cancel_all(jobs: list[Job]) -> None:
    for job in jobs:
        job.cancel()
