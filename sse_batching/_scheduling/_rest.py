"""Work that has begun outside of the task that has to finish it."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from types import CoroutineType
from typing import Any, Protocol


class Rest(Protocol):
    """What is left of a coroutine that has begun."""

    def __await__(self) -> Generator[Any, Any, None]:
        """Do it: once, and in the task for which it was begun."""

    def close(self) -> None:
        """Close the coroutine where it waits, instead."""


class Begun:
    """The rest of a coroutine that now waits for something, a future of the event loop."""

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        coroutine, waits_for = self._coroutine, self._waits_for
        try:
            while True:
                try:
                    sent = yield waits_for
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as error:  # noqa: BLE001
                    waits_for = coroutine.throw(error)
                else:
                    waits_for = coroutine.send(sent)
        except StopIteration:
            return


def coroutine_of(work: Awaitable[None]) -> Coroutine[Any, Any, None]:
    """As something that can be begun by hand: a server's `send` may return any awaitable."""
    return work if isinstance(work, CoroutineType) else _await(work)


async def _await(work: Awaitable[None]) -> None:
    await work
