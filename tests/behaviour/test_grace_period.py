"""How the app is told: at once, or when it has had its time to wind up by itself (F5, F6)."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from sse_batching import (
    CancellationToken,
    CancelReason,
    ClientDisconnected,
    SSEBatchingMiddleware,
    current_token,
    get_token,
)
from sse_batching.testing import Conversation
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import chunk, last, start
from tests.support.endings import FAILED, STALLED, Cause
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

GRACE = 4.0


class App:
    """An app that waits for something that never comes, with or without an eye on `receive`.

    The times are those at which things befell it, in seconds since the client left.
    """

    def __init__(
        self,
        *,
        asks: bool = False,
        listens: bool = False,
        listens_first: bool = False,
        streams: bool = True,
    ) -> None:
        self.asks, self.streams = asks, streams
        self.listens, self.listens_first = listens, listens_first
        self.left_at = 0.0
        self.token: CancellationToken | None = None
        self.signalled: float | None = None
        self.saw_disconnect: float | None = None
        self.cancelled: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.asks:
            self.token = get_token(scope)
            self.token.register(self.note_signal)
        try:
            async with anyio.create_task_group() as tasks:
                if self.listens_first:
                    tasks.start_soon(self.listen, receive)
                    await anyio.wait_all_tasks_blocked()
                if self.streams:
                    await send(start())
                    await send(chunk(b"a"))
                if self.listens:
                    tasks.start_soon(self.listen, receive)
                await anyio.sleep(100)
                tasks.cancel_scope.cancel()
        except BaseException:
            self.cancelled = self.now()
            raise
        if not self.streams:
            await send(start(b"text/plain"))
            await send(last(b"too late"))

    async def listen(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.saw_disconnect = self.now()

    def note_signal(self) -> None:
        self.signalled = self.now()

    def now(self) -> float:
        return anyio.current_time() - self.left_at


async def leave(app: App, talk: Conversation, after: float = 150) -> None:
    await advance(1)
    app.left_at = anyio.current_time()
    talk.leave()
    await advance(after)


async def test_an_app_that_never_asked_sees_the_disconnect_at_once() -> None:
    """As without the middleware: and it is not cancelled, it may want to go on. Pitfall 14."""
    app = App(listens=True)
    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await leave(app, talk)
    assert (app.saw_disconnect, app.cancelled) == (0, None)


async def test_an_app_that_neither_asks_nor_listens_nor_sends_is_left_alone() -> None:
    """As without the middleware: nobody can tell it, and nobody forces it."""
    app = App()
    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await leave(app, talk)
    assert app.cancelled is None
    assert talk.error is None


async def test_an_app_that_asked_sees_the_disconnect_after_the_grace_period() -> None:
    """Until then it may wind up by itself: its token is cancelled at once."""
    app = App(asks=True, listens=True, streams=False)
    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await leave(app, talk)
    assert (app.signalled, app.saw_disconnect) == (0, GRACE)


async def test_an_app_that_still_streams_after_the_grace_period_is_cancelled() -> None:
    """That is the last means. It leaves no error behind: the server has nothing to say of it."""
    app = App(asks=True)
    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await leave(app, talk, after=GRACE)
        await talk.ended()
    assert (app.signalled, app.cancelled) == (0, GRACE)
    assert talk.error is None


async def test_an_app_that_listens_has_a_moment_before_it_is_cancelled() -> None:
    """A framework cancels its own generator when it sees the disconnect, and does it better."""
    app = App(asks=True, listens=True)
    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await leave(app, talk, after=GRACE + 0.0625)
        assert (app.saw_disconnect, app.cancelled) == (GRACE, None)
        await talk.ended()
    assert app.cancelled is not None
    assert GRACE < app.cancelled < GRACE + 0.2
    assert talk.error is None


async def test_starlette_cancels_its_generator_after_the_grace_period() -> None:
    """The generator that has asked, and does nothing of itself, ends at its own `await`."""
    seen: list[str] = []

    async def generate() -> Any:
        current_token().register(seen.append, "signalled")
        yield b"data: 1\n\n"
        try:
            await anyio.sleep(100)
        except anyio.get_cancelled_exc_class():
            seen.append(f"cancelled {anyio.current_time() - began}")
            raise

    response = StreamingResponse(generate(), media_type="text/event-stream")
    async with Conversation(SSEBatchingMiddleware(response, grace_period=GRACE)) as talk:
        await advance(1)
        began = anyio.current_time()
        talk.leave()
        await talk.ended()
    assert seen == ["signalled", f"cancelled {GRACE}"]
    assert talk.error is None


@pytest.mark.parametrize("asks", [False, True], ids=["", "token"])
@pytest.mark.parametrize("cause", [FAILED, STALLED], ids=str)
@pytest.mark.parametrize("first", [False, True], ids=["", "before-the-start"])
async def test_what_the_server_never_says_reaches_receive_as_well(
    first: bool, cause: Cause, asks: bool
) -> None:
    """A failed or a stalled write is told there as a disconnect, though the server says nothing;
    also to a call that was there before the response."""
    app = App(asks=asks, listens=not first, listens_first=first)

    async def provoke(index: int, message: Any) -> None:
        if index == 1:
            cause.provoke(talk)
            app.left_at = anyio.current_time() + (2 if cause is STALLED else 0)

    middleware = SSEBatchingMiddleware(app, send_timeout=2, grace_period=GRACE)
    async with Conversation(middleware, on_send=provoke) as talk:
        await advance(150)
    assert app.saw_disconnect == (GRACE if asks else 0)


async def test_a_grace_period_of_nothing_forces_at_once() -> None:
    """`grace_period=0` is for apps that have nothing to wind up."""
    app = App(asks=True)
    async with Conversation(SSEBatchingMiddleware(app, grace_period=0)) as talk:
        await leave(app, talk, after=0)
        await talk.ended()
    assert (app.signalled, app.cancelled) == (0, 0)
    assert talk.error is None


async def test_an_app_that_winds_up_in_time_is_not_forced() -> None:
    """What it does after the cancellation of its token is its own, until it returns.
    Pitfalls 21 and 30."""
    done: list[float] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        await send(start())
        await token.wait_async()
        began = anyio.current_time()
        await advance(GRACE - 0.5)  # keeps its partial answer
        done.append(anyio.current_time() - began)

    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await advance(1)
        talk.leave()
        await talk.ended()
    assert done == [GRACE - 0.5]
    assert talk.error is None


async def test_the_grace_period_begins_with_the_cancellation_of_the_token() -> None:
    """An app that asks late, after the client has left, has lost that time."""
    told: list[tuple[float, bool]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await advance(3)
        told.append((anyio.current_time() - left_at, current_token().cancelled))

    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await advance(1)
        left_at = anyio.current_time()
        talk.leave()
        await talk.ended()
    assert told == [(2, True)]


# Before the response has started.


async def test_leaving_before_the_first_token_cancels() -> None:
    """The wait for the first token is the longest: the app is told during it. Pitfall 10."""
    told: list[float] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await current_token().wait_async()
        told.append(anyio.current_time() - left_at)

    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await advance(1)
        left_at = anyio.current_time()
        talk.leave()
        await talk.ended()
    assert told == [0]


async def test_a_response_that_starts_to_stream_after_the_client_has_left_is_refused() -> None:
    """Its first `send` raises; an app that goes on regardless is cancelled after its grace."""
    cancelled: list[float] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        current_token()
        await advance(2)
        for message in (start(), chunk(b"a")):
            with pytest.raises(ClientDisconnected) as caught:
                await send(message)
            assert caught.value.reason is CancelReason.CLIENT_DISCONNECTED
        try:
            await anyio.sleep(100)
        except BaseException:
            cancelled.append(anyio.current_time() - left_at)
            raise

    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await advance(1)
        left_at = anyio.current_time()
        talk.leave()
        await talk.ended()
    assert talk.error is None
    assert cancelled == [GRACE]
    assert talk.sent == []


async def test_a_response_that_does_not_stream_is_signalled_and_never_forced() -> None:
    """Its handler may save what it has; what it sends passes, as without the middleware."""
    app = App(asks=True, streams=False)
    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await leave(app, talk)
    assert (app.signalled, app.cancelled) == (0, None)
    assert talk.error is None


async def test_a_response_that_has_begun_and_does_not_stream_is_signalled_and_never_forced() -> (
    None
):
    """A long download is none of our business, but the token of its request works."""
    seen: list[CancelReason | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_token()
        await send(start(b"application/zip"))
        await send(chunk(b"a"))
        await token.wait_async()
        seen.append(token.reason)
        await advance(60)
        await send(last(b"b"))

    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await advance(1)
        talk.leave()
        await advance(70)
    assert seen == [CancelReason.CLIENT_DISCONNECTED]
    assert talk.error is None


async def test_an_app_that_never_asked_and_streams_late_learns_of_it_by_its_second_send() -> None:
    """The watch begins with the response, and finds that the client has left long before."""
    refused: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await advance(2)
        for message in (start(), chunk(b"a")):
            try:
                await send(message)
            except ClientDisconnected:
                refused.append(True)
            await anyio.wait_all_tasks_blocked()

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await advance(1)
        talk.leave()
        await talk.ended()
    assert refused
    assert talk.error is None
