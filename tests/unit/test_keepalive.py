"""`Keepalive`: when a comment is due, and where it may stand."""

from __future__ import annotations

import pytest

from sse_batching._keepalive import Keepalive
from sse_batching._loop import current_loop
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.virtual_time import advance

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]

INTERVAL = 10.0


class Idle:
    """A writer that has nothing to write, or has."""

    def __init__(self) -> None:
        self.idle = True
        self.woken = 0
        self.keepalive = Keepalive(current_loop(), INTERVAL, self._wake)

    def _wake(self) -> bool:
        self.woken += self.idle
        return self.idle

    async def quiet(self) -> bool:
        """Let an interval pass. Return True if a comment is due at its end."""
        self.keepalive.due = False
        self.keepalive.write_ended()
        await advance(INTERVAL + 1)
        return self.keepalive.due


async def test_a_comment_is_due_after_each_interval_without_a_write() -> None:
    """The interval counts from the end of the last write."""
    writer = Idle()
    await advance(INTERVAL - 1)
    writer.keepalive.write_ended()
    await advance(INTERVAL - 1)
    assert not writer.keepalive.due

    await advance(2)

    assert writer.keepalive.due
    await advance(2 * INTERVAL)
    assert writer.woken == 3
    writer.keepalive.stop()


async def test_no_comment_is_due_while_something_else_is_to_be_written() -> None:
    """A batch that waits keeps the connection alive by itself."""
    writer = Idle()
    writer.idle = False

    assert not await writer.quiet()

    writer.idle = True
    assert await writer.quiet()
    writer.keepalive.stop()


async def test_comments_follow_known_bytes_at_the_end_of_an_event_only() -> None:
    """A body that is not looked at may end within an event. The next event that ends is known."""
    writer, found = Idle(), list[bool]()
    bodies = [b"data: a\n\n", b"data: b", b"\n\n", None, b"c", b"\r\n\r\n"]
    for body in bodies:
        writer.keepalive.look_at(body)
        found.append(await writer.quiet())

    assert found == [True, False, True, False, False, True]
    writer.keepalive.stop()


async def test_no_comment_is_due_in_a_body_that_is_no_event_stream() -> None:
    """The first bytes decide, and none are due as long as these show nothing."""
    writer, found = Idle(), list[bool]()
    for body in (b"\n\n", b"Hello.\n\n", b"data: quoted\n\n"):
        writer.keepalive.look_at(body)
        found.append(await writer.quiet())

    assert found == [False, False, False]


async def test_no_comment_is_due_after_stop() -> None:
    """A comment that was due is taken back, and no timer is left."""
    writer = Idle()
    await writer.quiet()
    assert writer.keepalive.due

    writer.keepalive.stop()

    assert not writer.keepalive.due
    assert not await writer.quiet()
