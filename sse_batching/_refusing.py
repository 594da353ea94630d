"""What a `send` of the app's does once its stream is closed."""

from __future__ import annotations

from collections import deque
from typing import Final

from ._ending import Ending
from ._receiving import Receiver
from ._scheduling import Alarm, Scheduler
from .exceptions import ClientDisconnected

LET_OFF_AFTER_HELD: Final = 16
"""Sends: Django takes four turns of the loop to cancel its handler, and each may see one."""

REMEMBERED: Final = 8
"""Exceptions: as many tasks of an app may be in `send` or `receive` when it ends."""


class Refusals:
    """Lets the sends of one closed stream off, or refuses them.

    A refusal raises. But if the app waits in `receive` too, then one `send` is let off: the
    framework is told there, and cancels its generator at the generator's own await, which closes
    it. To raise would leave it suspended until a garbage collection. Where one was held when the
    stream was closed, a few more are let off: the app goes on at once, and frameworks differ in how
    long they take.
    """

    __slots__ = (
        "_ending",
        "_handing_over",
        "_let_off",
        "_raised",
        "_receiver",
        "_scheduler",
        "told",
    )

    def __init__(self, ending: Ending, receiver: Receiver, scheduler: Scheduler) -> None:
        self.told = False
        """Whether the app was told of the mistake of its own that closed the stream."""
        self._ending = ending
        self._receiver = receiver
        self._scheduler = scheduler
        self._let_off: int | None = None  # how many sends are still to be; None: not known yet
        self._handing_over: Alarm | None = None
        self._raised: deque[BaseException] | None = None

    def begin(self) -> None:
        """The stream is closed."""
        if self._let_off is None and self._receiver.app_waits:
            self._let_off = 1

    def refuse(self, *, held: bool = False) -> None:
        """Raise, or return for a `send` that is let off; `held`: it came before the end."""
        self.begin()
        ending = self._ending
        if not ending.asked:
            self._receiver.hand_over()
        if self._let_off:
            if held and not ending.asked:
                self._let_off = LET_OFF_AFTER_HELD
            else:
                self._let_off -= 1
            if ending.asked and not held:
                self._hand_over_soon()
            return
        cause = ending.cause
        assert cause is not None  # of a stream that is closed
        if cause.apps_fault and cause.error is not None:
            self.told = True
            raise cause.error
        error = ClientDisconnected(cause.message, cause.reason)
        self.remember(error)
        raise error from cause.error

    async def refuse_late(self) -> None:
        """Refuse one that comes after the end. An app that takes no refusal must not freeze the
        loop."""
        try:
            self.refuse()
        except Exception:
            if self._scheduler.turns.over(self._scheduler.time()):
                await self._give_way()
            raise

    async def _give_way(self) -> None:
        try:
            await self._scheduler.give_way()
        except BaseException as cancellation:
            self.remember(cancellation)
            raise

    def _hand_over_soon(self) -> None:
        """Hand the disconnect over in two turns of the loop: by then the generator whose `send` was
        let off has come to an await of its own. (FastAPI's generator endpoints have one of theirs
        around it, which comes first.)"""
        turns = iter(range(2))

        def ring(now: float) -> float | None:
            if next(turns, None) is not None:
                return now
            self._receiver.hand_over()
            return None

        if self._handing_over is None:
            self._handing_over = Alarm(self._scheduler, ring)
            self._handing_over.ring_at(self._scheduler.time())

    def remember(self, error: BaseException) -> None:
        """This is going to be raised in a `send` or `receive` of the app's, and may end it."""
        if self._raised is None:
            self._raised = deque(maxlen=REMEMBERED)
        self._raised.append(error)

    def stop(self) -> None:
        """The app has ended: let go of its frames, and hand nothing over any more."""
        for error in self._raised or ():
            error.__traceback__ = None  # see `let_go_of_frames`
        if self._handing_over is not None:
            self._handing_over.stop()
