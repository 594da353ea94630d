"""How the code that serves a request finds its stream and its token."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.requests import Request

from sse_batching import SSEBatchingMiddleware, current_stream, current_token, get_token
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import last, start

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]


async def call(app: Any, scope: dict[str, Any]) -> None:
    """Call the app behind the middleware. The request has no body, and no response is expected."""

    async def receive() -> Any:
        raise AssertionError

    async def send(message: Any) -> None:
        pass

    await SSEBatchingMiddleware(app)(scope, receive, send)


def scope_of(path: str = "/") -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": path, "headers": []}


async def test_all_ways_lead_to_one_token() -> None:
    """The context variable, the scope and the request have the same token."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        token = current_token()
        assert current_token() is token
        assert current_stream().token is token
        assert get_token(scope) is token
        assert get_token(Request(scope)) is token
        assert not token.cancelled

    await call(app, scope_of())


async def test_a_stream_has_one_id() -> None:
    """Each request has its own 128 random bits, as hexadecimal digits."""
    ids: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        ids.extend([current_stream().id, current_stream().id])

    for _ in range(2):
        await call(app, scope_of())

    assert (ids[0], ids[2]) == (ids[1], ids[3])
    assert ids[0] != ids[2]
    assert re.fullmatch(r"[0-9a-f]{32}", ids[0])


@pytest.mark.parametrize("find", [current_token, current_stream])
async def test_outside_a_request_there_is_nothing_to_find(find: Any) -> None:
    """`LookupError` is raised before a request and after it."""
    with pytest.raises(LookupError, match="no request is being served"):
        find()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        find()

    await call(app, scope_of())

    with pytest.raises(LookupError, match="no request is being served"):
        find()


@pytest.mark.parametrize("asks", [False, True])
async def test_get_token_raises_after_the_end(asks: bool) -> None:
    """The scope may live longer than the request, and the error names the request."""
    scope = scope_of("/chat")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if asks:
            get_token(scope)
        await send(start(b"text/html"))
        await send(last())

    await call(app, scope)

    with pytest.raises(LookupError, match=r"'http' '/chat' .* has ended"):
        get_token(scope)


async def test_get_token_raises_for_a_scope_without_a_token() -> None:
    """A WebSocket, for example, does not go through the middleware."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(LookupError, match="does not go through SSEBatchingMiddleware"):
            get_token(scope)

    await call(app, {"type": "websocket", "path": "/"})


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("max_delay", "0.1", TypeError),
        ("max_delay", True, TypeError),
        ("max_delay", -1, ValueError),
        ("max_delay", float("nan"), ValueError),
        ("enabled", "no", TypeError),
        ("enabled", 0, TypeError),
    ],
)
async def test_configure_rejects_a_wrong_value(
    option: str, value: object, error: type[Exception]
) -> None:
    """The error names the option and the value, and nothing is changed."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        configure: Any = current_stream().configure
        with pytest.raises(error, match=rf"{option} must be .*; got {value!r}"):
            configure(**{option: value})

    await call(app, scope_of())
