"""`split_cancellation`: which part of what an app raises is a cancellation."""

from __future__ import annotations

import anyio
import pytest

from sse_batching._finish import split_cancellation

pytestmark = pytest.mark.anyio


def split(error: BaseException | None) -> tuple[BaseException | None, BaseException | None]:
    return split_cancellation(error, anyio.get_cancelled_exc_class())


async def test_a_cancellation_is_one_and_any_other_exception_is_none() -> None:
    """Only the event loop's own exception is a cancellation."""
    cancellation, error = await a_cancellation(), ValueError()

    assert split(cancellation) == (cancellation, None)
    assert split(error) == (None, error)
    assert split(None) == (None, None)


async def test_a_group_of_cancellations_is_a_cancellation() -> None:
    """A nursery of trio's raises the cancellations of its tasks in groups of any depth."""
    group = BaseExceptionGroup(
        "tasks", [await a_cancellation(), BaseExceptionGroup("more", [await a_cancellation()])]
    )

    cancellation, other = split(group)

    assert isinstance(cancellation, BaseExceptionGroup)
    assert len(cancellation.exceptions) == 2
    assert other is None


async def test_a_mixed_group_is_split() -> None:
    """What the app raised by itself is told from the cancellations beside it."""
    error = ValueError()
    group = BaseExceptionGroup("tasks", [await a_cancellation(), error])

    cancellation, other = split(group)

    assert isinstance(cancellation, BaseExceptionGroup)
    assert isinstance(other, ExceptionGroup)
    assert other.exceptions == (error,)


async def test_thousands_of_groups_in_each_other_are_split_or_left_alone() -> None:
    """A group may be too deep for Python to split: its versions differ in how deep that is."""
    group: BaseException = await a_cancellation()
    for _ in range(5_000):
        group = BaseExceptionGroup("deep", [group])

    cancellation, other = split(group)

    assert (cancellation is None) == (other is group)


async def a_cancellation() -> BaseException:
    caught: list[BaseException] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class() as cancellation:
            caught.append(cancellation)
            raise
    return caught[0]
