"""The server and the client of one request."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
import anyio.lowlevel

from tests.fuzz.loops import World
from tests.fuzz.plan import Request, Write
from tests.fuzz.seen import Message, Seen, ServerError, ServerGone, Taken

WRAPPED: Final[contextvars.ContextVar[int]] = contextvars.ContextVar("wrapped", default=-1)
PLAIN: Final = Write(-1)
HANGS: Final = 40.0
"""Seconds for which a `send` hangs after the client has left."""

CLEANUP: Final = 0.01


class Shared:
    """What the requests of a run share: the clock, the trace, a future and a lock."""

    def __init__(self, world: World, *, on_asyncio: bool) -> None:
        self.world = world
        self.on_asyncio = on_asyncio
        self.trace: list[str] = []
        self.order = 0
        self.gate: Any = None
        """Pending while `send` has to wait; None otherwise."""
        self.lock: Any = asyncio.Lock() if on_asyncio else anyio.Lock()
        self.cancelling_all = False

    def tick(self) -> int:
        """Return the place of an event among all events of the run."""
        self.order += 1
        return self.order

    def note(self, request: int, *words: object) -> None:
        """Add a line to the trace."""
        when = f"{self.world.now() - 1000.0 if self.on_asyncio else self.world.now():9.4f}"
        self.trace.append(f"{when} #{request} {' '.join(map(str, words))}")

    def close_gate(self) -> None:
        if self.gate is None:
            self.gate = (
                asyncio.get_running_loop().create_future() if self.on_asyncio else anyio.Event()
            )

    def open_gate(self) -> None:
        gate, self.gate = self.gate, None
        if gate is None:
            return
        if not self.on_asyncio:
            gate.set()
        elif not gate.done():
            gate.set_result(None)

    async def pass_gate(self) -> None:
        gate = self.gate
        if gate is None:
            return
        if not self.on_asyncio:
            await gate.wait()
            return
        try:
            await gate  # the future itself, which others await as well
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not gate.cancelled() or task is None or task.cancelling():
                raise
            # Another task was cancelled while it awaited the future.


class ServerSide:
    """Takes the messages of one request as its plan says, and plays its client."""

    def __init__(self, request: Request, seen: Seen, shared: Shared) -> None:
        self.plan = request.server
        self.fates = request.fates
        self.seen = seen
        self.shared = shared
        self.world = shared.world
        self._cancelled = anyio.get_cancelled_exc_class()
        self._writes = {write.number: write for write in self.plan.writes}
        self._inbox: list[Message] = []
        self._changed = anyio.Event()
        self._reading = 0
        self._writing = 0
        self._said_disconnect = False
        self._fails: BaseException | None = None
        self._started = False
        self.cancel: Callable[[], None] = lambda: None

    # The client.

    async def play(self) -> None:
        """Send the request body, leave, and cancel the request, each at its time."""
        events: list[tuple[float, int, Callable[[], None]]] = [
            (arrival.at, 0, self._arrive(arrival.size, more=arrival.more))
            for arrival in self.plan.arrivals
        ]
        if not events:
            self._inbox.append({"type": "http.request", "body": b"", "more_body": False})
        if self.plan.receive_fails is not None:
            events.append((self.plan.receive_fails, 0, self._fail))
        for fate in self.fates:
            does = self.leave if fate.do == "leave" else self._cancel_request
            events.append((fate.at, fate.turns, does))
        for at, turns, does in sorted(events, key=lambda event: event[:2]):
            await anyio.sleep(max(0.0, self.seen.began + at - self.world.now()))
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            does()
            self._change()

    def _arrive(self, size: int, *, more: bool) -> Callable[[], None]:
        def arrive() -> None:
            if self.seen.left is None:
                body = b"b" * size
                self._inbox.append({"type": "http.request", "body": body, "more_body": more})

        return arrive

    def _fail(self) -> None:
        self._fails = RuntimeError("receive")

    def leave(self) -> None:
        if self.seen.left is None:
            self.shared.note(self.seen.number, "the client leaves")
            self.seen.left = self.world.now()

    def _cancel_request(self) -> None:
        if self.seen.ended is None:
            self.shared.note(self.seen.number, "the server cancels")
            self.cancel()

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    # The server's `receive`.

    async def receive(self) -> Message:
        self._reading += 1
        if self._reading > 1 and self.seen.request.enabled:
            self.seen.strange.append("receive: two tasks wait in the server's receive")
        try:
            message = await self._next()
        finally:
            self._reading -= 1
        self.seen.said.append(message)
        self.shared.note(self.seen.number, "server says", message["type"])
        return message

    async def _next(self) -> Message:
        while True:
            if self._fails is not None:
                raise self._fails
            if self._inbox:
                return self._inbox.pop(0)
            over = self.seen.left is not None or (self.seen.complete and self.plan.says_complete)
            if over and (self.plan.repeats or not self._said_disconnect):
                self._said_disconnect = True
                if self.seen.disconnect_said is None:
                    self.seen.disconnect_said = self.world.now()
                    self.seen.disconnect_order = self.shared.tick()
                return {"type": "http.disconnect"}
            await self._changed.wait()

    # The server's `send`.

    async def send(self, message: Message) -> None:
        seen = self.seen
        task = self.world.current()
        by_app = any(task is one for one in seen.sending)
        taken = Taken(copied(message), self.world.now(), self.shared.tick(), by_app)
        seen.taken.append(taken)
        number = len(seen.taken) - 1
        self.shared.note(seen.number, f"write {number} begins:", short(message))
        if task is None:
            seen.strange.append("task: the server's send runs outside of a task")
        self._writing += 1
        if self._writing > 1 and not by_app:
            seen.strange.append("two writes: a write begins before the last one has ended")
        try:
            await self._in_context(message, taken, self._writes.get(number, PLAIN))
            taken.result = "taken"
        except Exception as error:
            taken.result, taken.error = "failed", error
            raise
        except GeneratorExit:
            taken.result = "closed"
            raise
        except BaseException as error:
            taken.result, taken.error = "cancelled", error
            raise
        finally:
            self._writing -= 1
            taken.ended, taken.end_order = self.world.now(), self.shared.tick()
            self.shared.note(seen.number, f"write {number} ends: {taken.result}")
            if taken.result != "closed" and self.world.current() is not task:
                seen.strange.append("task: a write begins in one task and ends in another")

    async def _in_context(self, message: Message, taken: Taken, write: Write) -> None:
        if not self.plan.var:
            await self._take(message, taken, write)
            return
        if WRAPPED.get() != -1:
            self.seen.strange.append("context: a variable of an earlier send is still set")
        before = WRAPPED.set(len(self.seen.taken))
        try:
            await self._take(message, taken, write)
        finally:
            try:
                WRAPPED.reset(before)
            except ValueError as error:
                self.seen.strange.append("context: a send ends in another context")
                raise ServerError("context") from error

    async def _take(self, message: Message, taken: Taken, write: Write) -> None:
        if self.plan.lock:
            async with self.shared.lock:
                await self._wait(taken, write)
        else:
            await self._wait(taken, write)
        if write.fails == "os":
            raise ServerGone("the connection was lost")
        if write.fails == "runtime":
            raise ServerError("the server does not like this message")
        self._accept(message, by_app=taken.by_app)

    async def _wait(self, taken: Taken, write: Write) -> None:
        waits = (write.turns, write.seconds) if write.turns or write.seconds else None
        if self.seen.left is not None and not self.seen.complete:
            if self.plan.gone == "raises":
                raise ServerGone("the client has left")
            waits = (0, HANGS) if self.plan.gone == "hangs" else waits
        if waits is None and not (self.plan.gate and self.shared.gate is not None):
            return
        wait = self._pause(*(waits or (0, 0.0)))
        if self.plan.cancelled in ("waits_on", "returns"):
            await self._cannot_be_cancelled(wait, taken)
            return
        try:
            await wait
        except self._cancelled:
            if (
                self.plan.cancelled == "cleans_up"
                and not self.shared.cancelling_all
                and not taken.by_app
            ):
                await self._clean_up()
            raise

    async def _pause(self, turns: int, seconds: float) -> None:
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        if seconds:
            await anyio.sleep(seconds)
        if self.plan.gate:
            await self.shared.pass_gate()

    async def _cannot_be_cancelled(self, wait: Awaitable[None], taken: Taken) -> None:
        cancelled: BaseException | None = None
        if not self.shared.on_asyncio:
            with anyio.CancelScope(shield=True):
                await wait
            if self.plan.cancelled == "waits_on":
                await anyio.lowlevel.checkpoint()
            return
        task = asyncio.ensure_future(wait)
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
                taken.cancellations += 1
        if cancelled is not None and self.plan.cancelled == "waits_on":
            raise cancelled

    async def _clean_up(self) -> None:
        """Wait after a cancellation, as code does that rolls something back."""
        try:
            with (
                contextlib.nullcontext()
                if self.shared.on_asyncio
                else anyio.CancelScope(shield=True)
            ):
                await anyio.sleep(CLEANUP)
        except asyncio.CancelledError:
            self.seen.strange.append(
                "cancelled twice: the cleanup of a write was cancelled as well"
            )
            raise

    def _accept(self, message: Message, *, by_app: bool) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            if self._started:
                raise ServerError("the response has started")
            self._started = True
        elif kind == "http.response.body":
            if not self._started or self.seen.complete:
                raise ServerError("unexpected body")
            if not message.get("more_body", False):
                self.seen.complete = True
                self._change()
        if not isinstance(message.get("body", b""), bytes) and not by_app:
            self.seen.strange.append(f"type: the server was given a {type(message['body'])}")


def copied(message: Message) -> Message:
    """Return a copy of a message, whose body the app cannot change."""
    copy = dict(message)
    if "body" in copy:
        copy["body"] = bytes(copy["body"])
    return copy


def named(error: BaseException | None) -> str:
    """Return an exception in few words, which are the same in each run."""
    if isinstance(error, BaseExceptionGroup):
        return f"group({', '.join(map(named, error.exceptions))})"
    if error is None or isinstance(error, Exception):
        return repr(error)
    return type(error).__name__


def short(message: Message) -> str:
    """Return a message in few words."""
    kind = str(message["type"]).removeprefix("http.response.")
    if kind != "body":
        return kind
    last = "" if message.get("more_body", False) else " LAST"
    return f"{bytes(message.get('body', b''))!r}{last}"
