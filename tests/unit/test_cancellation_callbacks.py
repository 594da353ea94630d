"""Callbacks of a token: each is called once, in order, whatever the others do or raise."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from sse_batching import CancellationToken, CancelReason, Registration
from tests.support.threads import PATIENCE, eager_switching, running, together


class Agent:
    """An agent with a method that a callback can call."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def interrupt(self, message: str = "") -> None:
        self.heard.append(message)


def callback_that_raises(error: type[BaseException]) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_cancel_calls_back_with_the_arguments() -> None:
    """A callback gets the arguments with which it was registered, by position and by name."""
    token, agent = CancellationToken(), Agent()
    token.register(agent.interrupt, "SSE client disconnected")
    token.register(agent.interrupt, message="by name")
    assert agent.heard == []

    token.cancel()

    assert agent.heard == ["SSE client disconnected", "by name"]


def test_callbacks_run_in_the_order_of_their_registration() -> None:
    """The callback that was registered first is called first."""
    token, order = CancellationToken(), list[int]()
    for n in range(100):
        token.register(order.append, n)

    token.cancel()

    assert order == list(range(100))


def test_callbacks_have_run_when_cancel_returns() -> None:
    """A callback runs in the thread that calls `cancel`, before `cancel` returns."""
    token, threads = CancellationToken(), list[int]()
    token.register(lambda: threads.append(threading.get_ident()))

    token.cancel()

    assert threads == [threading.get_ident()]


def test_a_callback_is_called_once_however_often_the_token_is_cancelled() -> None:
    """A second `cancel` calls no callback."""
    token, agent = CancellationToken(), Agent()
    token.register(agent.interrupt)

    token.cancel()
    token.cancel()

    assert len(agent.heard) == 1


def test_one_callback_registered_twice_is_called_twice() -> None:
    """Each registration counts, because two parts of an app may register the same function."""
    token, agent = CancellationToken(), Agent()
    first = token.register(agent.interrupt, "once")
    token.register(agent.interrupt, "once")
    first.unregister()

    token.cancel()

    assert agent.heard == ["once"]


def test_a_callback_for_a_cancelled_token_is_called_at_once() -> None:
    """`register` on a cancelled token calls the callback before it returns."""
    token, agent = CancellationToken(), Agent()
    token.cancel()

    registration = token.register(agent.interrupt, "late")

    assert agent.heard == ["late"]
    assert registration.unregister() is False


def test_a_callback_sees_the_token_cancelled() -> None:
    """The token shows in a callback that it is cancelled, and why."""
    token, seen = CancellationToken(), list[object]()
    token.register(lambda: seen.append((token.cancelled, token.reason, token.message)))

    token.cancel(CancelReason.DEADLINE, "too slow")

    assert seen == [(True, CancelReason.DEADLINE, "too slow")]


def test_an_unregistered_callback_is_not_called() -> None:
    """Only the first `unregister` returns True: the one that removed the callback."""
    token, agent = CancellationToken(), Agent()
    registration = token.register(agent.interrupt)

    assert [registration.unregister(), registration.unregister()] == [True, False]
    token.cancel()
    assert agent.heard == []
    assert registration.unregister() is False


def test_a_registration_lasts_as_long_as_its_with_block() -> None:
    """A registration that is used as a context manager ends with the block."""
    inside, after, agent = CancellationToken(), CancellationToken(), Agent()

    with inside.register(agent.interrupt, "inside"), after.register(agent.interrupt, "after"):
        inside.cancel()
    after.cancel()

    assert agent.heard == ["inside"]


def test_a_registration_ends_with_a_block_that_raises() -> None:
    """An exception in the block leaves no callback behind, and is not swallowed."""
    token, agent = CancellationToken(), Agent()

    with pytest.raises(KeyError), token.register(agent.interrupt):
        raise KeyError
    token.cancel()

    assert agent.heard == []


def test_a_token_forgets_callbacks_that_were_unregistered_or_called() -> None:
    """A token that lives long keeps no object alive for a callback that is over. Pitfall 31."""
    unregistered, called = CancellationToken(), CancellationToken()
    first, second = Agent(), Agent()
    with unregistered.register(first.interrupt):
        pass
    called.register(second.interrupt)
    called.cancel()
    remains = weakref.ref(first), weakref.ref(second)

    del first, second

    assert [remain() for remain in remains] == [None, None]


def test_a_failing_callback_is_logged_and_the_others_run(caplog: pytest.LogCaptureFixture) -> None:
    """An exception of one callback neither reaches `cancel` nor prevents the next callback.
    Pitfall 28."""
    token, agent = CancellationToken(), Agent()
    token.register(agent.interrupt, "before")
    token.register(int, "not a number")
    token.register(agent.interrupt, "after")

    assert token.cancel() is True
    assert agent.heard == ["before", "after"]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("sse_batching", logging.ERROR)
    assert "not a number" in str(record.exc_info and record.exc_info[1])


def test_a_failing_callback_of_a_cancelled_token_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`register` on a cancelled token does not raise the exception of the callback."""
    token = CancellationToken()
    token.cancel()

    token.register(int, "not a number")

    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_callback_that_raises_a_cancellation_is_logged_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A `CancelledError` of a callback, for example of a future that it reads, cancels no task."""
    token, agent = CancellationToken(), Agent()
    token.register(callback_that_raises(asyncio.CancelledError))
    token.register(agent.interrupt, "after")

    assert token.cancel() is True
    assert agent.heard == ["after"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_callback_for_a_closed_loop_is_no_error(
    make_loop: Callable[[], asyncio.AbstractEventLoop], caplog: pytest.LogCaptureFixture
) -> None:
    """The task of a registered `task.cancel` ran in a loop that is closed by now. There is nobody
    to cancel, and nothing to report."""
    token, loop = CancellationToken(), make_loop()
    task = loop.create_task(asyncio.sleep(60))
    loop.call_soon(loop.stop)
    loop.run_forever()
    task._log_destroy_pending = False  # type: ignore[attr-defined] # dropped on purpose
    loop.close()
    token.register(task.cancel)
    token.register(loop.call_soon_threadsafe, print)

    assert token.cancel()

    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exit_is_raised_when_all_callbacks_have_run(error: type[BaseException]) -> None:
    """An exception that ends the program is not swallowed, and the callbacks after it still run."""
    token, agent = CancellationToken(), Agent()
    token.register(callback_that_raises(error))
    token.register(agent.interrupt, "after")

    with pytest.raises(error):
        token.cancel()
    assert agent.heard == ["after"]
    with pytest.raises(error):
        token.register(callback_that_raises(error))


async def interrupt_later() -> None:
    """A coroutine function: calling it does nothing yet."""


@pytest.mark.parametrize("callback", [interrupt_later, functools.partial(interrupt_later)])
def test_a_coroutine_function_is_rejected(callback: Callable[..., Any]) -> None:
    """`register` raises for a callback that nobody would await, instead of ignoring it later."""
    with pytest.raises(TypeError, match="interrupt_later"):
        CancellationToken().register(callback)


def test_an_object_that_cannot_be_called_is_rejected() -> None:
    """The error of `register` shows the object."""
    with pytest.raises(TypeError, match="'interrupt'"):
        CancellationToken().register("interrupt")  # type: ignore[arg-type]


# Calls inside callbacks.


def test_a_callback_may_cancel_again() -> None:
    """A callback that cancels its own token gets False, and no callback is called twice."""
    token, results, agent = CancellationToken(), list[bool](), Agent()
    token.register(lambda: results.append(token.cancel(CancelReason.DEADLINE)))
    token.register(agent.interrupt)

    token.cancel(CancelReason.REQUESTED)

    assert (results, len(agent.heard), token.reason) == ([False], 1, CancelReason.REQUESTED)


def test_a_callback_may_register_another() -> None:
    """A callback that is registered inside a callback is called at once, since the token is already
    cancelled. Pitfall 63."""
    token, agent = CancellationToken(), Agent()
    token.register(lambda: token.register(agent.interrupt, "nested"))

    token.cancel()

    assert agent.heard == ["nested"]


def test_a_callback_may_unregister_another() -> None:
    """A callback can unregister a later callback, but no longer itself. Pitfall 63."""
    token, results, agent = CancellationToken(), list[bool](), Agent()
    first = token.register(lambda: results.extend([first.unregister(), second.unregister()]))
    second = token.register(agent.interrupt)

    token.cancel()

    assert (results, agent.heard) == ([False, True], [])


def test_a_slow_callback_blocks_no_other_thread() -> None:
    """While a callback runs, other threads can read, wait, register, unregister and cancel."""
    token, agent = CancellationToken(), Agent()
    entered, release = threading.Event(), threading.Event()

    def slow() -> None:
        entered.set()
        assert release.wait(PATIENCE)

    token.register(slow)
    with running(token.cancel):
        assert entered.wait(PATIENCE)
        try:
            (seen,) = together([lambda: (token.wait(PATIENCE), token.cancel(), token.cancelled)])
            together([lambda: token.register(agent.interrupt, "meanwhile").unregister()])
        finally:
            release.set()

    assert seen == (True, False, True)
    assert agent.heard == ["meanwhile"]


def test_register_beside_cancel_calls_every_callback_exactly_once() -> None:
    """No callback is lost if another thread cancels during the registration."""

    def register(token: CancellationToken, calls: list[tuple[int, int]], thread: int) -> None:
        for n in range(50):
            token.register(calls.append, (thread, n))

    for _ in range(30):
        token, calls = CancellationToken(), list[tuple[int, int]]()
        registering = [functools.partial(register, token, calls, thread) for thread in range(4)]

        with eager_switching():
            together([*registering, token.cancel])

        assert sorted(calls) == [(thread, n) for thread in range(4) for n in range(50)]


def test_unregister_beside_cancel_returns_true_for_callbacks_never_called() -> None:
    """A callback is never called if, and only if, its `unregister` returns True."""

    def unregister(registrations: list[Registration]) -> set[int]:
        return {n for n, registration in enumerate(registrations) if registration.unregister()}

    for _ in range(30):
        token, called = CancellationToken(), set[int]()
        registrations = [token.register(called.add, n) for n in range(100)]

        with eager_switching(), running(token.cancel):
            unregistered = unregister(registrations)

        assert called | unregistered == set(range(100))
        assert not called & unregistered
