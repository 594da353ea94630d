"""Code around the server's `send`, such as a tracing middleware outside this one.

The timer begins a write, and a task finishes the write if the server has to wait. A wrapper must
see of that no more than it would see of a `send` that the app awaits.
"""

from __future__ import annotations

import asyncio
import decimal
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

import anyio
import pytest
from sniffio import current_async_library
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sse_batching import SSEBatchingMiddleware, StreamReport, current_token
from sse_batching.testing import Conversation
from tests.conftest import EVERY_LOOP, REAL_TIME, VIRTUAL_ASYNCIO, VIRTUAL_TIME, loops
from tests.support.apps import converse, emitting
from tests.support.threads import PATIENCE

pytestmark = [pytest.mark.anyio, loops([*VIRTUAL_TIME, *EVERY_LOOP])]

on_asyncio = loops([*VIRTUAL_ASYNCIO, *REAL_TIME], because="only asyncio has futures and locks")

Wrapper: TypeAlias = Callable[[Send, Message], Awaitable[None]]

DELAY: Final = 0.008

STEADY: Final = (b"0", 0.012, b"1", 0.002, b"2", 0.012, b"3", 0.002, b"4", 0.012, b"5", 0.002)
"""Chunks in three bursts. The first chunk of a burst is written at once, by the task of the stream.
The timer writes the second one, after as long as the burst was old."""

BODY: Final = b"012345"

variable: ContextVar[str] = ContextVar("variable", default="nothing")


def batching(*steps: bytes | float, **options: Any) -> SSEBatchingMiddleware:
    return SSEBatchingMiddleware(emitting(*(steps or STEADY)), max_delay=DELAY, **options)


def wrapped(app: ASGIApp, wrapper: Wrapper) -> ASGIApp:
    """Return the app with a wrapper around the `send` that the server gives it."""

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        async def wrapped_send(message: Message) -> None:
            await wrapper(send, message)

        await app(scope, receive, wrapped_send)

    return outer


async def slow(number: int, message: Message) -> None:
    """Take a message as a server does whose client reads slowly."""
    await anyio.sleep(0.001)


def is_timer_write(message: Message) -> bool:
    """Return True for a batch that the timer begins to write."""
    return b"2" in message.get("body", b"")


# Context variables.


async def test_a_wrapper_can_reset_a_context_variable_behind_its_send() -> None:
    """A token of a context variable is accepted only in the context that made it. A wrapper that
    traces or logs each `send` uses one. Pitfall 81."""

    async def trace(send: Send, message: Message) -> None:
        token = variable.set("a send")
        try:
            await send(message)
        finally:
            variable.reset(token)

    talk = await converse(wrapped(batching(), trace), on_send=slow)

    assert talk.body == BODY


async def test_each_write_finds_what_the_last_write_left() -> None:
    """A wrapper that counts, or keeps a span open from one `send` to the next, does so in a context
    variable. Pitfall 81."""
    found = list[str]()

    async def count(send: Send, message: Message) -> None:
        found.append(variable.get())
        await send(message)
        variable.set(str(len(found)))

    await converse(wrapped(batching(), count), on_send=slow)

    assert found == ["nothing", *map(str, range(1, len(found)))]


async def test_what_a_wrapper_sets_is_set_behind_its_wait() -> None:
    """The precision of `decimal` is a context variable, as the current span of a tracer is.
    Pitfall 81."""
    results = list[str]()

    async def calculate(send: Send, message: Message) -> None:
        with decimal.localcontext(prec=3):
            await send(message)
            results.append(str(decimal.Decimal(1) / 3))

    await converse(wrapped(batching(), calculate), on_send=slow)

    assert set(results) == {"0.333"}


async def test_a_wrapper_sees_what_the_app_set_before_the_response() -> None:
    """The context of a response is that of its start. What the app sets later, and what a wrapper
    sets, stays on its own side. Pitfall 82."""
    found, at_the_end = list[str](), list[str]()

    async def note(send: Send, message: Message) -> None:
        found.append(variable.get())
        await send(message)

    inner = batching()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        variable.set("of the request")
        await inner(scope, receive, send)
        at_the_end.append(variable.get())

    await converse(wrapped(app, note), on_send=slow)

    assert set(found) == {"of the request"}
    assert at_the_end == ["of the request"]


@pytest.mark.parametrize("fails", [True, False], ids=["write-fails", "write-stalls"])
async def test_callbacks_of_the_token_run_in_the_context_of_the_request(fails: bool) -> None:
    """A callback may log with the id of its request, also if a timer found that the client has
    gone. The timer serves many requests."""
    found = list[str]()

    async def broken(number: int, message: Message) -> None:
        if is_timer_write(message):
            if fails:
                raise ConnectionResetError
            await anyio.sleep(PATIENCE)

    inner = batching(send_timeout=0.01)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        variable.set("of the request")
        await inner(scope, receive, send)

    original = inner.app

    async def registering(scope: Any, receive: Any, send: Any) -> None:
        current_token().register(lambda: found.append(variable.get()))
        await original(scope, receive, send)

    inner.app = registering
    async with Conversation(app, on_send=broken) as talk:
        await talk.ended()

    assert found == ["of the request"]


# What a wrapper shares with others.


@on_asyncio
async def test_streams_can_wait_for_one_future() -> None:
    """The streams of one connection wait for one future while the client does not read. A task of
    the server's may wait for it, too."""
    loop = asyncio.get_running_loop()
    resumed = loop.create_future()
    begun = list[str]()
    innocent: list[asyncio.Task[None]] = []

    async def wait() -> None:
        await resumed

    async def flow_control(send: Send, message: Message) -> None:
        if is_timer_write(message) and not resumed.done():
            begun.append("write")
            innocent.append(asyncio.create_task(wait()))
            if len(begun) == 3:
                loop.call_later(0.01, resumed.set_result, None)
            await resumed
        await send(message)

    talks = list[Conversation]()

    async def stream() -> None:
        talks.append(await converse(wrapped(batching(), flow_control)))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(stream)
    await asyncio.gather(*innocent)

    assert [talk.body for talk in talks] == [BODY] * 3


each_moment = pytest.mark.parametrize("soon", [True, False], ids=["same-iteration", "later"])
"""When a write is cut short: before the task of the stream has taken it over from the timer, or
afterwards."""


@on_asyncio
@each_moment
async def test_a_stream_that_is_cut_hands_on_a_lock(soon: bool) -> None:
    """`asyncio.Lock` wakes the next waiter if the first one is cancelled, but not if its coroutine
    is closed. The streams of one connection may share a lock."""
    loop, lock = asyncio.get_running_loop(), asyncio.Lock()
    others: list[asyncio.Task[None]] = []
    talk: Conversation

    async def neighbour() -> None:
        async with lock:
            pass

    def leave() -> None:
        talk.leave()  # the client resets this stream,
        loop.call_soon(lock.release)  # and takes what another stream has sent: one packet

    async def one_at_a_time(send: Send, message: Message) -> None:
        if not is_timer_write(message) or others:
            await send(message)
            return
        await lock.acquire()  # as another stream does that is writing now
        if soon:
            leave()
        else:
            loop.call_later(0.01, leave)
        others.append(asyncio.create_task(neighbour()))
        async with lock:
            await send(message)

    async with Conversation(wrapped(batching(), one_at_a_time)) as talk:
        await talk.ended()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*others)

    assert len(others) == 1


# Cancellations and timeouts.


@each_moment
async def test_a_write_that_is_cut_short_is_cancelled_once(soon: bool) -> None:
    """What a wrapper awaits to clean up after itself runs to its end."""
    log, begun = list[str](), anyio.Event()
    talk: Conversation

    async def audit(send: Send, message: Message) -> None:
        if not is_timer_write(message) or log:
            await send(message)
            return
        log.append("begun")
        begun.set()
        try:
            if soon:
                talk.leave()
            await anyio.sleep(PATIENCE)
        except anyio.get_cancelled_exc_class():
            log.append("cancelled")
            with anyio.CancelScope(shield=trio_shields()):
                await anyio.sleep(0.001)
            log.append("rolled back")
            raise

    async with Conversation(wrapped(batching(), audit)) as talk:
        await begun.wait()
        await anyio.sleep(0.002)
        talk.leave()
        await talk.ended()

    assert log == ["begun", "cancelled", "rolled back"]


def trio_shields() -> bool:
    """Return True on trio, where a cancelled task has to shield what it awaits."""
    return current_async_library() == "trio"


def with_timeout(seconds: float) -> Wrapper:
    async def wrapper(send: Send, message: Message) -> None:
        if is_timer_write(message):
            async with asyncio.timeout(seconds):
                await asyncio.sleep(PATIENCE)
        await send(message)

    return wrapper


def with_wait_for(seconds: float) -> Wrapper:
    async def wrapper(send: Send, message: Message) -> None:
        if is_timer_write(message):
            await asyncio.wait_for(asyncio.sleep(PATIENCE), seconds)
        await send(message)

    return wrapper


def with_fail_after(seconds: float) -> Wrapper:
    async def wrapper(send: Send, message: Message) -> None:
        if is_timer_write(message):
            with anyio.fail_after(seconds):
                await anyio.sleep(PATIENCE)
        await send(message)

    return wrapper


@on_asyncio
@pytest.mark.parametrize("seconds", [-1, 0, 0.001])
@pytest.mark.parametrize("timeout", [with_timeout, with_wait_for, with_fail_after])
async def test_a_timeout_of_a_wrapper_is_a_failed_write(
    timeout: Callable[[float], Wrapper], seconds: float
) -> None:
    """A timeout cancels the task that runs `send`, which is no shutdown of the server, also if the
    timeout has expired when the wait begins."""
    reports = list[StreamReport]()

    await converse(wrapped(batching(on_close=reports.append), timeout(seconds)))

    assert [report.reason for report in reports] == ["send_failed"]
    assert isinstance(reports[0].error, TimeoutError)


@on_asyncio
@pytest.mark.parametrize("seconds", [-1, 0, 0.001])
async def test_a_timeout_that_a_wrapper_handles_changes_nothing(seconds: float) -> None:
    """A wrapper may give up its own work after a while, and go on."""

    async def hasty(send: Send, message: Message) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.sleep(PATIENCE)
        await send(message)

    talk = await converse(wrapped(batching(), hasty))

    assert talk.body == BODY


@on_asyncio
@each_moment
async def test_a_cancelled_future_is_a_failed_write(soon: bool) -> None:
    """A server may cancel the future that its `send` awaits. Nobody shuts the server down."""
    loop, reports = asyncio.get_running_loop(), list[StreamReport]()

    async def awaits_future(send: Send, message: Message) -> None:
        if is_timer_write(message):
            future = loop.create_future()
            if soon:
                loop.call_soon(future.cancel)
            else:
                loop.call_later(0.001, future.cancel)
            await future
        await send(message)

    await converse(wrapped(batching(on_close=reports.append), awaits_future))

    assert [report.reason for report in reports] == ["send_failed"]


# Kinds of `send`.


class Awaiting:
    """An awaitable that is no coroutine, as compiled code returns."""

    def __init__(self, coroutine: Awaitable[None], note: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._note = note

    def __await__(self) -> Generator[Any, Any, None]:
        self._note()
        yield from self._coroutine.__await__()
        self._note()


async def test_send_may_be_a_plain_function() -> None:
    """A plain function may return any awaitable. All of the call runs in one task and context."""
    found: list[tuple[int, str]] = []

    def note() -> None:
        found.append((anyio.get_current_task().id, variable.get()))

    inner = batching()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        def plain_send(message: Message) -> Awaitable[None]:
            variable.set(repr(message.get("body")))
            note()
            return Awaiting(send(message), note)

        await inner(scope, receive, plain_send)

    talk = await converse(app, on_send=slow)

    assert talk.body == BODY
    for call in zip(found[::3], found[1::3], found[2::3], strict=True):
        assert len(set(call)) == 1
