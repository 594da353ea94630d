"""Which exceptions of an app follow a disconnect, and how their tracebacks are cleared."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Final

import anyio
import pytest
from starlette.requests import ClientDisconnect

from sse_batching import CancelReason, ClientDisconnected, StreamCancelled
from sse_batching._disconnect import clear_tracebacks, follows_disconnect


def raised(error: BaseException) -> BaseException:
    """Return the exception with a traceback."""
    with suppress(type(error)):
        raise error
    return error


def caused_by(cause: BaseException) -> Exception:
    """Return an exception that was raised from this one."""
    error = ValueError()
    error.__cause__ = cause
    return error


def in_a_circle() -> Exception:
    """Return an exception whose causes refer in a circle."""
    error = ValueError()
    error.__cause__ = caused_by(error)
    return error


def behind_many_causes(error: BaseException) -> BaseException:
    """Return an exception with more causes than Python has room for on its stack."""
    for _ in range(5_000):
        error = caused_by(error)
    return error


def in_many_groups(error: Exception) -> Exception:
    """Return an exception in more groups than Python has room for on its stack."""
    for _ in range(5_000):
        error = ExceptionGroup("group", [error])
    return error


GONE: Final = ClientDisconnected("gone", CancelReason.CLIENT_DISCONNECTED)


@pytest.mark.parametrize(
    ("error", "follows"),
    [
        pytest.param(GONE, True, id="rejected-send"),
        pytest.param(
            StreamCancelled("cancelled", CancelReason.DEADLINE), True, id="raise_if_cancelled"
        ),
        pytest.param(ClientDisconnect(), True, id="starlette"),
        pytest.param(anyio.BrokenResourceError(), True, id="between-two-tasks-of-the-app"),
        pytest.param(anyio.ClosedResourceError(), True, id="between-two-tasks-of-the-app-closed"),
        pytest.param(caused_by(GONE), True, id="raised-from-a-rejected-send"),
        pytest.param(ExceptionGroup("", [GONE, caused_by(GONE)]), True, id="group"),
        pytest.param(ExceptionGroup("", [GONE, ValueError()]), False, id="group-with-another"),
        pytest.param(ValueError(), False, id="another"),
        pytest.param(caused_by(ValueError()), False, id="raised-from-another"),
        pytest.param(in_a_circle(), False, id="causes-in-a-circle"),
        pytest.param(behind_many_causes(GONE), True, id="behind-many-causes"),
        pytest.param(behind_many_causes(ValueError()), False, id="another-behind-many-causes"),
        pytest.param(in_many_groups(GONE), True, id="in-many-groups"),
        pytest.param(in_many_groups(ValueError()), False, id="another-in-many-groups"),
        pytest.param(caused_by(in_many_groups(GONE)), True, id="raised-from-a-group"),
        pytest.param(ConnectionResetError(), False, id="another-connection-of-the-app"),
    ],
)
def test_only_an_exception_that_follows_the_disconnect_is_swallowed(
    error: BaseException, follows: bool
) -> None:
    """Any other exception of the app's cleanup is news to the server."""
    assert follows_disconnect(error) is follows


def test_all_tracebacks_of_a_swallowed_exception_are_cleared() -> None:
    """That includes its causes, its contexts and the members of groups, also in a circle."""
    cause, context, member = (raised(OSError(name)) for name in ("cause", "context", "member"))
    error = raised(BaseExceptionGroup("group", [member]))
    error.__cause__ = cause
    cause.__context__ = context
    context.__cause__ = error

    clear_tracebacks(error)

    assert [each.__traceback__ for each in (error, cause, context, member)] == [None] * 4


def test_the_variables_of_the_frames_are_cleared() -> None:
    """A log handler may keep the traceback, and with it all that the frames refer to."""

    def app() -> None:
        agent = Agent()
        found.append(weakref.ref(agent))
        raise ValueError

    class Agent:
        """An agent that a frame refers to."""

    found: list[weakref.ref[Agent]] = []
    try:
        app()
    except ValueError as error:
        kept, swallowed = error.__traceback__, error
    assert found[0]() is not None

    clear_tracebacks(swallowed)

    assert kept is not None
    assert found[0]() is None
