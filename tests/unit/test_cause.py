"""Which cause an exception of the server's `send` stands for."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from sse_batching import CancellationToken, CancelReason
from sse_batching._cause import SERVER_CANCELLED, Cause, is_disconnect, of_failed_write

DISCONNECTS = [
    ConnectionResetError("Connection lost"),
    BrokenPipeError(),
    TimeoutError(),
    OSError("Cannot send to a closed socket"),
    anyio.BrokenResourceError(),
    anyio.ClosedResourceError(),
    RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed"),
]

APP_ERRORS = [
    RuntimeError("Response content longer than Content-Length"),
    RuntimeError("Unexpected ASGI message 'http.response.start' sent"),
    ValueError("the handler is closed"),
    KeyError("status"),
]

ENDS = [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(1), GeneratorExit()]


def by_name(value: Any) -> str:
    return f"{type(value).__name__}-{value}"[:50]


@pytest.mark.parametrize("error", DISCONNECTS, ids=by_name)
def test_a_write_to_a_lost_connection_is_a_disconnect(error: Exception) -> None:
    """Servers raise their own kinds of `OSError`, anyio's errors, or uvloop's `RuntimeError`."""
    assert is_disconnect(error)
    assert of_failed_write(error) == Cause(
        CancelReason.SEND_FAILED, "SSE client disconnected", error, is_app_error=False
    )


@pytest.mark.parametrize("error", APP_ERRORS, ids=by_name)
def test_any_other_exception_is_an_error_of_the_app(error: Exception) -> None:
    """The server has rejected a message of the app's, and the client has not left."""
    assert not is_disconnect(error)
    assert of_failed_write(error) == Cause(
        CancelReason.SEND_FAILED, "SSE write failed", error, is_app_error=True
    )


@pytest.mark.parametrize("error", ENDS, ids=by_name)
def test_an_exception_that_ends_the_task_is_a_cancellation_by_the_server(
    error: BaseException,
) -> None:
    """The write was ended together with all tasks of the event loop."""
    assert not is_disconnect(error)
    assert of_failed_write(error) == SERVER_CANCELLED._replace(error=error)
    assert of_failed_write(error).reason is CancelReason.SERVER_SHUTDOWN


def test_a_cause_begins_with_the_arguments_of_cancel() -> None:
    """`token.cancel(*cause[:3])` gives the token the reason, the message and the error."""
    token, error = CancellationToken(), ConnectionResetError()
    cause = of_failed_write(error)

    token.cancel(*cause[:3])

    assert (token.reason, token.message, token.error) == (cause.reason, cause.message, error)
