"""When the app learns of a disconnect: at once, or after its grace period (F5, F6)."""

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
    """An app that waits for something that never comes, and may wait in `receive` meanwhile.

    It records when its token was cancelled, when it saw the disconnect, and when it was cancelled
    itself, in seconds since the client left.
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
    """An app that never asked for its token sees the disconnect at once and is not cancelled, as
    without the middleware. Pitfall 14."""
    app = App(listens=True)
    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await leave(app, talk)
    assert (app.saw_disconnect, app.cancelled) == (0, None)


async def test_an_app_that_neither_asks_nor_listens_nor_sends_is_left_alone() -> None:
    """An app that neither asks for its token, nor waits in `receive`, nor sends, is not cancelled,
    as without the middleware."""
    app = App()
    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await leave(app, talk)
    assert app.cancelled is None
    assert talk.error is None


async def test_an_app_that_asked_sees_the_disconnect_after_the_grace_period() -> None:
    """The token of an app that asked for it is cancelled at once. The app sees `http.disconnect`
    after the grace period, in which it may clean up."""
    app = App(asks=True, listens=True, streams=False)
    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await leave(app, talk)
    assert (app.signalled, app.saw_disconnect) == (0, GRACE)


async def test_an_app_that_still_streams_after_the_grace_period_is_cancelled() -> None:
    """An app that still streams after the grace period is cancelled, and the server sees no
    error."""
    app = App(asks=True)
    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await leave(app, talk, after=GRACE)
        await talk.ended()
    assert (app.signalled, app.cancelled) == (0, GRACE)
    assert talk.error is None


async def test_an_app_that_listens_has_a_moment_before_it_is_cancelled() -> None:
    """An app that waits in `receive` is cancelled a moment after it has seen the disconnect.

    In that moment a framework can cancel its generator, which then ends at its own `await`.
    """
    app = App(asks=True, listens=True)
    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await leave(app, talk, after=GRACE + 0.0625)
        assert (app.saw_disconnect, app.cancelled) == (GRACE, None)
        await talk.ended()
    assert app.cancelled is not None
    assert GRACE < app.cancelled < GRACE + 0.2
    assert talk.error is None


async def test_starlette_cancels_its_generator_after_the_grace_period() -> None:
    """Starlette cancels a generator that asked for its token and ignores it after the grace period,
    at the generator's own `await`."""
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
async def test_a_failed_write_reaches_receive_as_a_disconnect(
    first: bool, cause: Cause, asks: bool
) -> None:
    """`receive` returns `http.disconnect` after a failed or a stalled write, also if the server's
    `receive` does not, and also to a call that began before the response."""
    app = App(asks=asks, listens=not first, listens_first=first)

    async def provoke(index: int, message: Any) -> None:
        if index == 1:
            cause.provoke(talk)
            app.left_at = anyio.current_time() + (2 if cause is STALLED else 0)

    middleware = SSEBatchingMiddleware(app, send_timeout=2, grace_period=GRACE)
    async with Conversation(middleware, on_send=provoke) as talk:
        await advance(150)
    assert app.saw_disconnect == (GRACE if asks else 0)


async def test_without_a_grace_period_the_app_is_cancelled_at_once() -> None:
    """With `grace_period=0` an app is cancelled at once. It is for apps that have nothing to clean
    up."""
    app = App(asks=True)
    async with Conversation(SSEBatchingMiddleware(app, grace_period=0)) as talk:
        await leave(app, talk, after=0)
        await talk.ended()
    assert (app.signalled, app.cancelled) == (0, 0)
    assert talk.error is None


async def test_an_app_that_cleans_up_in_time_is_not_cancelled() -> None:
    """An app that returns within the grace period is not interrupted while it cleans up.
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


async def test_a_token_asked_for_after_the_disconnect_is_cancelled() -> None:
    """A token that is asked for after the client has left is cancelled already."""
    asked: list[tuple[float, bool]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await advance(3)
        asked.append((anyio.current_time() - left_at, current_token().cancelled))

    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await advance(1)
        left_at = anyio.current_time()
        talk.leave()
        await talk.ended()
    assert asked == [(2, True)]


# Before the response has started.


async def test_leaving_before_the_first_token_cancels() -> None:
    """A client that leaves before the response starts cancels the token at once. The wait for the
    model's first token is the longest. Pitfall 10."""
    cancelled_after: list[float] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await current_token().wait_async()
        cancelled_after.append(anyio.current_time() - left_at)

    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await advance(1)
        left_at = anyio.current_time()
        talk.leave()
        await talk.ended()
    assert cancelled_after == [0]


async def test_a_response_that_starts_to_stream_after_the_client_has_left_is_rejected() -> None:
    """`send` raises if a response starts to stream after its client has left. If the app goes on,
    it is cancelled after the grace period."""
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
    """A handler that does not stream has its token cancelled, and is not cancelled itself. What it
    sends passes, as without the middleware."""
    app = App(asks=True, streams=False)
    async with Conversation(SSEBatchingMiddleware(app, grace_period=GRACE)) as talk:
        await leave(app, talk)
    assert (app.signalled, app.cancelled) == (0, None)
    assert talk.error is None


async def test_a_response_that_has_begun_and_does_not_stream_is_signalled_and_never_forced() -> (
    None
):
    """A response that has begun and does not stream, a long download for example, is not cancelled
    either. Its token is."""
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


async def test_an_app_without_a_token_that_streams_late_is_rejected_by_its_second_send() -> None:
    """An app that never asked for its token and starts to stream after its client has left is
    rejected by its second `send`. The middleware watches for the disconnect from the start on."""
    rejected: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await advance(2)
        for message in (start(), chunk(b"a")):
            try:
                await send(message)
            except ClientDisconnected:
                rejected.append(True)
            await anyio.wait_all_tasks_blocked()

    async with Conversation(SSEBatchingMiddleware(app)) as talk:
        await advance(1)
        talk.leave()
        await talk.ended()
    assert rejected
    assert talk.error is None
