"""`BatchWriter`: when it writes, in which order, and what producers wait for.

`test_writer_ends` has the rest: how it ends.
"""

from __future__ import annotations

from contextvars import ContextVar

import anyio
import anyio.lowlevel
import pytest

from sse_batching._sse import KEEPALIVE_COMMENT
from sse_batching._types import Message
from tests.conftest import VIRTUAL_TIME, loops
from tests.support.apps import chunk, last, start
from tests.support.virtual_time import advance
from tests.unit.writing import BOUND, DELAY, Server, Writing

pytestmark = [pytest.mark.anyio, loops(VIRTUAL_TIME)]


async def test_the_first_chunk_is_written_at_once() -> None:
    """The task of the writer is woken for a batch that is due."""
    writing = Writing()
    await anyio.wait_all_tasks_blocked()

    writing.add(b"a")
    await anyio.wait_all_tasks_blocked()

    assert (writing.server.bodies, writing.server.times) == ([b"a"], [0])
    assert (writing.writer.writes, writing.writer.bytes_sent) == (1, 1)
    await writing.end()


async def test_a_batch_is_written_at_its_deadline() -> None:
    """The deadlines of a young burst are early, and the timer keeps each of them."""
    writing = Writing()
    for body, pause in ((b"a", 0.5), (b"b", 0.25), (b"c", 1.25), (b"d", DELAY)):
        writing.add(body)
        await advance(pause)

    assert writing.server.times == [0, 1, 4]
    assert writing.server.bodies == [b"a", b"bc", b"d"]
    await writing.end()


async def test_chunks_that_come_during_a_write_are_written_when_it_ends() -> None:
    """A batch does not wait for its deadline once a slow write has kept it waiting."""
    writing = Writing()
    writing.server.block()
    for body in (b"a", b"b", b"c"):
        writing.add(body)
        await advance(DELAY)
    assert writing.server.bodies == []

    writing.server.unblock()
    await anyio.wait_all_tasks_blocked()

    assert writing.server.bodies == [b"a", b"bc"]
    await writing.end()


async def test_a_message_is_written_behind_the_batch() -> None:
    """`write_through` returns when both are delivered. The batch does not wait for its deadline."""
    writing = Writing()
    await writing.begin_burst()
    writing.add(b"c")

    await writing.writer.write_through({"type": "http.response.debug"})

    assert writing.server.sent[-2:] == [chunk(b"c"), {"type": "http.response.debug"}]
    assert writing.closed == []
    await writing.end()


async def test_the_last_message_takes_the_batch_with_it() -> None:
    """The end of the response is one write, and is reported to the owner."""
    writing = Writing()
    await writing.begin_burst()
    writing.add(b"c")
    writing.add(b"d")

    await writing.writer.write_through(last(b"d"), last=True)

    assert writing.server.sent[-1] == last(b"cd")
    assert (writing.closed, writing.writer.closed) == ([None], True)
    await writing.writer.join(1)
    assert writing.writer.stopped


async def test_flush_writes_the_batch_now() -> None:
    """`flush` returns when the batch is delivered, and does nothing without one."""
    writing = Writing()
    await writing.begin_burst()
    writing.add(b"c")

    for _ in range(2):
        await writing.writer.flush()

    assert writing.server.bodies[-1] == b"c"
    assert writing.writer.writes == 3
    await writing.end()


# Flow control.


async def test_drain_waits_while_the_buffer_is_full() -> None:
    """A producer goes on when the client has taken the bytes in flight."""
    writing = Writing()
    writing.server.block()
    writing.add(bytes(BOUND))

    with anyio.move_on_after(60) as waited:
        await writing.writer.drain()
    assert waited.cancelled_caught
    assert not writing.writer.accepting

    writing.server.unblock()
    await writing.writer.drain()

    assert writing.writer.accepting
    await writing.end()


async def test_producers_take_turns_in_the_order_of_their_calls() -> None:
    """The first producer in `wait_turn` is the first to go on, when no message is pending."""
    writing, turns = Writing(), list[str]()
    writing.server.block()

    async def produce(name: str) -> None:
        await writing.writer.wait_turn()
        turns.append(name)
        await writing.writer.write_through({"type": "http.response.debug", "name": name})

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writing.writer.write_through, start())
        await anyio.wait_all_tasks_blocked()
        for name in ("a", "b", "c"):
            tasks.start_soon(produce, name)
            await anyio.wait_all_tasks_blocked()
        assert (turns, writing.writer.queued) == ([], 4)
        writing.server.unblock()

    assert turns == ["a", "b", "c"]
    assert [message.get("name") for message in writing.server.sent] == [None, "a", "b", "c"]
    assert writing.writer.queued == 0
    await writing.end()


async def test_a_cancelled_producer_does_not_take_its_message_back() -> None:
    """A write is never interrupted by its producer: half of it may be sent."""
    writing = Writing()
    writing.server.block()

    with anyio.move_on_after(1):
        await writing.writer.write_through(start())
    writing.server.unblock()
    await anyio.wait_all_tasks_blocked()

    assert writing.server.sent == [start()]
    await writing.end()


# Comments.


@pytest.mark.parametrize(
    ("body", "comments"),
    [
        pytest.param(b"data: a\n\n", [15, 30], id="behind-an-event"),
        pytest.param(b"data: a\n", [], id="inside-an-event"),
    ],
)
async def test_a_comment_is_written_between_events(body: bytes, comments: list[float]) -> None:
    """A comment follows each `keepalive_interval` without a write, but not inside an event."""
    writing = Writing(keepalive_interval=15)
    writing.add(body)

    await advance(40)

    assert writing.server.times == [0, *comments]
    assert writing.server.bodies == [body, *[KEEPALIVE_COMMENT] * len(comments)]
    await writing.end()


# Changes.


@pytest.mark.parametrize(
    ("max_delay", "written"),
    [pytest.param(1, 7.5, id="shorter"), pytest.param(60, 10.5, id="longer")],
)
async def test_a_changed_delay_never_postpones_the_waiting_batch(
    max_delay: float, written: float
) -> None:
    """A shorter delay counts from the change, and a longer one counts for later batches only."""
    writing = Writing()
    await writing.begin_burst()
    writing.add(b"c")

    writing.writer.set_max_delay(max_delay)
    await advance(60)

    assert writing.server.bodies[-1] == b"c"
    assert writing.server.times[-1] == written
    await writing.end()


# The task and its context.


class ContextServer(Server):
    """Records a context variable of each write, and changes it. Records the task before and after
    the wait of each write."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.tasks: list[tuple[int, int]] = []

    async def send(self, message: Message) -> None:
        self.seen.append(variable.get("nothing"))
        variable.set(f"left by write {len(self.seen)}")
        before = anyio.get_current_task().id
        await anyio.lowlevel.checkpoint()
        self.tasks.append((before, anyio.get_current_task().id))
        await super().send(message)


variable: ContextVar[str] = ContextVar("variable")


async def test_all_writes_are_made_in_one_context() -> None:
    """Each write begins with what the last one has left in context variables. The timer serves many
    streams, but writes in the context of this one."""
    variable.set("of the request")
    server = ContextServer()
    writing = Writing(server)
    variable.set("of another request")

    await writing.begin_burst()
    await writing.writer.write_through(start())

    assert server.seen == ["of the request", "left by write 1", "left by write 2"]
    assert variable.get() == "of another request"
    await writing.end()


async def test_each_write_is_made_in_one_task() -> None:
    """Servers open cancel scopes and timeouts in `send`, which have to be closed in the same task.
    It is never the task of a producer."""
    server = ContextServer()
    writing = Writing(server)

    await writing.begin_burst()
    await writing.writer.write_through(start())

    assert len(server.tasks) == 3
    assert all(before == after for before, after in server.tasks)
    assert anyio.get_current_task().id not in {task for task, _ in server.tasks}
    await writing.end()
