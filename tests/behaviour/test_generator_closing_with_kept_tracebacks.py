"""A generator is closed promptly (F10), also if code around the app keeps tracebacks.

A traceback refers to frames, and the frames to the generator. Tracers, error reporters and log
handlers keep tracebacks: in a local variable, which makes a circle, or for as long as the process
lives.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sse_batching import ClientDisconnected
from sse_batching.testing import Conversation
from tests.behaviour.test_generator_closing import (
    CAUSES,
    KINDS,
    Agent,
    Kind,
    batched,
    end,
    raw,
    starlette,
)
from tests.support.apps import chunk, start
from tests.support.endings import Cause

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Async generator .* was garbage collected:ResourceWarning"),
]

Kept = list[Any]


@pytest.fixture(autouse=True)
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def in_a_local(app: ASGIApp, kept: Kept) -> ASGIApp:
    """Keep the exception in a variable of a frame of its own traceback, as ddtrace does."""

    async def traced(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except BaseException:
            info = sys.exc_info()
            assert info
            raise

    return traced


def wrapped(app: ASGIApp, kept: Kept) -> ASGIApp:
    """Raise another exception, which refers to the first one."""

    async def reports(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except Exception as error:
            info = sys.exc_info()
            assert info
            raise RuntimeError("reported") from error

    return reports


def in_a_log(app: ASGIApp, kept: Kept) -> ASGIApp:
    """Keep the traceback for longer than the request lasts, as a handler of log records does."""

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except BaseException:
            kept.append(sys.exc_info())
            raise

    return logged


def in_a_log_of_sends(app: ASGIApp, kept: Kept) -> ASGIApp:
    """Keep the traceback of a `send` that raises."""

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        async def logged_send(message: Message) -> None:
            try:
                await send(message)
            except BaseException:
                kept.append(sys.exc_info())
                raise

        await app(scope, receive, logged_send)

    return logged


KEEPERS = [in_a_local, wrapped, in_a_log, in_a_log_of_sends]


def starlette_that_asks(agent: Agent, kind: Kind) -> ASGIApp:
    return starlette(agent, kind, asks=True)


@pytest.mark.parametrize("cause", CAUSES, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
@pytest.mark.parametrize("make", [starlette, starlette_that_asks, raw])
@pytest.mark.parametrize("keeper", KEEPERS)
async def test_a_generator_is_closed_though_a_traceback_is_kept(
    keeper: Callable[[ASGIApp, Kept], ASGIApp], make: Any, kind: Kind, cause: Cause
) -> None:
    """Code that keeps the traceback of what ended the app does not keep the generator.
    Pitfall 88."""
    agent, kept = Agent(), Kept()
    async with Conversation(batched(keeper(make(agent, kind), kept))) as talk:
        await end(talk, cause, kind)
        await talk.ended()
        await agent.is_closed()
    assert talk.error is None


async def test_a_task_that_has_caught_the_exception_lives_on() -> None:
    """A task of the app's that has caught what its `send` raised, and saves its work, is not ended
    with the frames of the traceback."""
    saved = anyio.Event()

    async def work(send: Send) -> None:
        try:
            while True:
                await send(chunk(b"x"))
                await anyio.sleep(0.01)
        except ClientDisconnected as error:
            kept = error  # keeps the traceback, which has the frame of this task
            failed.set()
            await anyio.sleep(1)
            assert kept
            saved.set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        background.start_soon(work, send)
        await failed.wait()

    failed = anyio.Event()
    async with anyio.create_task_group() as background:
        async with Conversation(batched(app)) as talk:
            await talk.until(lambda: talk.bodies)
            talk.leave()
            await talk.ended()
        with anyio.fail_after(5):
            await saved.wait()


async def test_an_exception_of_the_apps_own_keeps_the_variables_of_its_frames() -> None:
    """An error reporter around the app shows the variables of the frames. Only those of a swallowed
    exception are cleared."""
    found: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer = b"half of the answer"
        await send(start())
        try:
            while True:
                await send(chunk(answer))
                await anyio.sleep(0.01)
        except ClientDisconnected:
            raise ValueError("an error of the app") from None

    async def reporter(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await batched(app)(scope, receive, send)
        except ValueError as error:
            traceback = error.__traceback__
            while traceback is not None:
                found.append(traceback.tb_frame.f_locals.get("answer"))
                traceback = traceback.tb_next

    async with Conversation(reporter) as talk:
        await talk.until(lambda: talk.bodies)
        talk.leave()
        await talk.ended()
    assert b"half of the answer" in found
