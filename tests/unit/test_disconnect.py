"""What follows the first cause: the token, the grace period, late sends and kept exceptions.

`test_disconnect_exceptions` has the functions for exceptions of an app.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Final, cast

import anyio
import pytest

from sse_batching import CancellationToken, CancelReason, ClientDisconnected
from sse_batching._cause import CLIENT_LEFT, Cause
from sse_batching._disconnect import (
    FRAMEWORK_TIME,
    IGNORED_AFTER_WAIT,
    KEPT_EXCEPTIONS,
    Disconnect,
)
from sse_batching._loop import current_loop
from sse_batching._receiver import Receiver
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import chunk, last
from tests.support.virtual_time import advance, spend

pytestmark = loops(VIRTUAL_TIME)

in_loop = pytest.mark.anyio

GRACE_PERIOD: Final = 5.0


class FakeAppTask:
    """The task of an app, which counts its cancellations."""

    def __init__(self) -> None:
        self.cancelled_after: list[float] = []
        self.counted = 0
        self.ended = False
        self._began = current_loop().time()

    @property
    def scope(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def cancel(self) -> None:
        self.cancelled_after.append(round(current_loop().time() - self._began, 6))

    def counting_cancels(
        self, callback: Callable[..., object], /, *args: Any, **kwargs: Any
    ) -> None:
        self.counted += 1
        callback(*args, **kwargs)

    def if_cancelled_outside(self, callback: Callable[[], object]) -> None:
        raise AssertionError

    def app_ended(self, *, cancelled: bool) -> bool:
        raise AssertionError

    def cancellation_arrived(self) -> bool:
        raise AssertionError

    @property
    def settled(self) -> bool:
        raise AssertionError

    async def settle(self) -> None:
        raise AssertionError

    def uncancel(self) -> None:
        raise AssertionError


class FakeReceiver:
    """A receiver that records when the app may see `http.disconnect`."""

    def __init__(self, *, app_waits: bool) -> None:
        self.app_waits = app_waits
        self.delivered_after: list[float] = []
        self._began = current_loop().time()

    def deliver_disconnect(self) -> None:
        self.delivered_after.append(round(current_loop().time() - self._began, 6))


class Request:
    """A request with a `Disconnect`."""

    def __init__(self, *, app_waits: bool = False, asks: bool = False) -> None:
        self.app_task = FakeAppTask()
        self.receiver = FakeReceiver(app_waits=app_waits)
        self.disconnect = Disconnect(
            current_loop(), self.app_task, cast("Receiver", self.receiver), GRACE_PERIOD
        )
        self.token = CancellationToken()
        if asks:
            self.disconnect.set_token(self.token, grace=True)

    def end(self, cause: Cause = CLIENT_LEFT, *, must_stop: bool = True) -> None:
        """End the request early."""
        self.disconnect.must_stop = must_stop
        self.disconnect.begin(cause)

    def sends_until_rejected(self, *, waited: bool = False) -> int:
        """Return how many late sends are ignored. Only the first one was waiting, if `waited`."""
        for ignored in range(100):
            try:
                self.disconnect.reject_or_ignore(waited=waited and not ignored)
            except ClientDisconnected:
                return ignored
        raise AssertionError("no send was rejected")


# The token and the app.


@in_loop
async def test_the_cause_cancels_the_token() -> None:
    """The token gets the first cause. A callback that cancels the request's task is counted."""
    request, error = Request(asks=True), ConnectionResetError()
    request.token.register(lambda: None)

    request.end(Cause(CancelReason.SEND_FAILED, "message", error))

    token = request.token
    assert (token.reason, token.message, token.error) == (
        CancelReason.SEND_FAILED,
        "message",
        error,
    )
    assert request.app_task.counted == 1


@in_loop
async def test_a_token_that_is_asked_for_after_the_cause_is_cancelled_now() -> None:
    """An app may ask for its token when the client has already left."""
    request = Request()
    request.end()

    request.disconnect.set_token(request.token, grace=True)

    assert request.token.reason is CancelReason.CLIENT_DISCONNECTED


@in_loop
async def test_a_released_token_is_not_cancelled() -> None:
    """Nothing refers to the token once the request is over."""
    request = Request(asks=True)

    request.disconnect.release()
    request.end()

    assert not request.token.cancelled
    assert not request.disconnect.token_requested


@in_loop
async def test_an_app_that_never_asked_sees_the_disconnect_at_once() -> None:
    """Such an app behaves as without the middleware, and is never cancelled."""
    request = Request(app_waits=True)

    request.end()
    request.disconnect.notify_app()
    await advance(10 * GRACE_PERIOD)

    assert request.receiver.delivered_after == [0]
    assert request.app_task.cancelled_after == []


@in_loop
@pytest.mark.parametrize(
    ("app_waits", "must_stop", "cancelled_after"),
    [
        pytest.param(False, True, [GRACE_PERIOD], id="streams"),
        pytest.param(True, True, [GRACE_PERIOD + FRAMEWORK_TIME], id="waits-in-receive"),
        pytest.param(True, False, [], id="does-not-stream"),
    ],
)
async def test_an_app_that_asked_has_the_grace_period(
    app_waits: bool, must_stop: bool, cancelled_after: list[float]
) -> None:
    """After the grace period the app sees the disconnect. It is cancelled if it streams, and later
    if its framework can still cancel its generator by itself."""
    request = Request(app_waits=app_waits, asks=True)

    request.end(must_stop=must_stop)
    request.disconnect.notify_app()
    await advance(10 * GRACE_PERIOD)

    assert request.receiver.delivered_after == [GRACE_PERIOD]
    assert request.app_task.cancelled_after == cancelled_after


@in_loop
async def test_nothing_is_cancelled_after_the_app_has_ended() -> None:
    """`stop` cancels the timer of the grace period."""
    request = Request(asks=True)
    request.end()
    request.disconnect.notify_app()

    request.disconnect.stop()
    await advance(10 * GRACE_PERIOD)

    assert (request.receiver.delivered_after, request.app_task.cancelled_after) == ([], [])


# Late sends.


@in_loop
async def test_a_late_send_is_rejected() -> None:
    """`ClientDisconnected` has the reason of the cause, and is raised from the failed write."""
    request, error = Request(), ConnectionResetError()
    request.end(Cause(CancelReason.SEND_FAILED, "SSE client disconnected", error))

    with pytest.raises(ClientDisconnected, match="SSE client disconnected") as caught:
        request.disconnect.reject_or_ignore(waited=False)

    assert caught.value.reason is CancelReason.SEND_FAILED
    assert caught.value.__cause__ is error


@in_loop
async def test_an_error_of_the_app_is_raised_as_the_server_raised_it() -> None:
    """An error about the app's own message is no disconnect."""
    request, error = Request(), RuntimeError("Response content longer than Content-Length")
    request.end(Cause(CancelReason.SEND_FAILED, "SSE write failed", error, is_app_error=True))
    assert not request.disconnect.app_error_raised

    with pytest.raises(RuntimeError) as caught:
        request.disconnect.reject_or_ignore(waited=False)

    assert caught.value is error
    assert request.disconnect.app_error_raised


@in_loop
@pytest.mark.parametrize(
    ("app_waits", "asks", "waited", "ignored"),
    [
        pytest.param(False, False, False, 0, id="does-not-receive"),
        pytest.param(True, False, False, 1, id="receives"),
        pytest.param(True, True, False, 1, id="receives-and-asked"),
        pytest.param(True, False, True, 1 + IGNORED_AFTER_WAIT, id="receives-and-waited"),
        pytest.param(True, True, True, 2, id="receives-and-asked-and-waited"),
    ],
)
async def test_some_sends_are_ignored_if_the_app_waits_in_receive(
    app_waits: bool, asks: bool, waited: bool, ignored: int
) -> None:
    """The framework learns of the disconnect from `receive`, and cancels its generator at an
    `await` of the generator's own."""
    request = Request(app_waits=app_waits, asks=asks)
    request.end()

    assert request.sends_until_rejected(waited=waited) == ignored


@in_loop
async def test_an_app_that_asked_sees_the_disconnect_after_an_ignored_send() -> None:
    """The generator first reaches an `await` of its own: two loop iterations later, not at once."""
    request = Request(app_waits=True, asks=True)
    request.end()

    request.disconnect.reject_or_ignore(waited=False)
    assert request.receiver.delivered_after == []
    await advance(1)

    assert request.receiver.delivered_after == [0]


@in_loop
@pytest.mark.parametrize("app_waits", [False, True])
async def test_a_late_send_of_an_app_that_never_asked_delivers_the_disconnect(
    app_waits: bool,
) -> None:
    """`receive` tells the framework why its `send` was rejected or ignored."""
    request = Request(app_waits=app_waits)
    request.end()
    assert request.receiver.delivered_after == []

    with nullcontext() if app_waits else pytest.raises(ClientDisconnected):
        request.disconnect.reject_or_ignore(waited=False)
    await advance(1)

    assert request.receiver.delivered_after == [0]


@in_loop
async def test_an_app_that_ignores_rejections_yields() -> None:
    """An app that catches every exception and never awaits anything else does not freeze the event
    loop."""
    request, ran = Request(), list[str]()
    request.end()
    await anyio.wait_all_tasks_blocked()

    async def other_task() -> None:
        ran.append("other task")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other_task)
        for _ in range(10):  # trio runs the tasks of one iteration in any order
            with pytest.raises(ClientDisconnected):
                await request.disconnect.reject_or_ignore_late(chunk(b"x"))
            spend(0.005)
        ran.append("app")

    assert ran == ["other task", "app"]


@in_loop
@pytest.mark.parametrize("asks", [False, True])
async def test_an_empty_last_message_behind_a_rejected_send_is_ignored(asks: bool) -> None:
    """A framework that ends the response after any error of `send` sees no second error."""
    request = Request(asks=asks)
    request.end()

    for message in (last(), chunk(b"x"), last(b"x")):
        with pytest.raises(ClientDisconnected):
            await request.disconnect.reject_or_ignore_late(message)
    await request.disconnect.reject_or_ignore_late(last())


# Exceptions.


@in_loop
async def test_tracebacks_are_cleared_when_the_app_has_ended() -> None:
    """The last exceptions of the app's `send` and `receive` keep no frame of the app alive."""
    request = Request()
    request.end()
    errors: list[BaseException] = [OSError(n) for n in range(KEPT_EXCEPTIONS + 1)]
    for error in errors:
        with suppress(OSError):
            raise error
        request.disconnect.clear_traceback_later(error)
    with pytest.raises(ClientDisconnected) as rejection:
        request.disconnect.reject_or_ignore(waited=False)
    errors.append(rejection.value)
    assert all(error.__traceback__ for error in errors)

    request.disconnect.clear_kept_tracebacks(frames=True)

    cleared = [error.__traceback__ is None for error in errors]
    assert cleared == [False, False, *[True] * KEPT_EXCEPTIONS]
