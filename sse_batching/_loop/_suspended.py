"""A coroutine that was begun outside the task that has to finish it."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from types import CoroutineType
from typing import Any, Final

NOT_BEGUN: Final = object()


class Suspended:
    """The rest of a coroutine. To be awaited once, in the task in whose name the coroutine was
    begun."""

    __slots__ = ("_coroutine", "_yielded")

    def __init__(self, coroutine: Coroutine[Any, Any, None], yielded: Any = NOT_BEGUN) -> None:
        self._coroutine = coroutine
        self._yielded = yielded  # a future of the event loop, or NOT_BEGUN

    def close(self) -> None:
        """Close the coroutine where it is suspended, instead of awaiting it."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        coroutine, yielded = self._coroutine, self._yielded
        try:
            if yielded is NOT_BEGUN:
                yielded = coroutine.send(None)
            while True:
                try:
                    sent = yield yielded
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as error:  # noqa: BLE001
                    yielded = coroutine.throw(error)
                else:
                    yielded = coroutine.send(sent)
        except StopIteration:
            return


def coroutine_of(work: Awaitable[None]) -> Coroutine[Any, Any, None]:
    """Return `work` as a coroutine: a server's `send` may return any awaitable."""
    return work if isinstance(work, CoroutineType) else _await(work)


async def _await(work: Awaitable[None]) -> None:
    await work
