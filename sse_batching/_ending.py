"""What ends a request before its time: the first cause, the token, and the app that is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from ._scheduling import Alarm, Host, Scheduler
from .cancellation import CancellationToken
from .reasons import CancelReason

FRAMEWORK_TIME: Final = 0.1
"""Seconds for a framework that sees the disconnect to cancel its generator in its own way. The
slowest one measured takes 4 ms."""

_token_lock: Final = threading.Lock()


class Cause(NamedTuple):
    """Why a request ends before its time."""

    reason: CancelReason
    message: str
    error: BaseException | None = None
    apps_fault: bool = False
    """The server refused what the app sent: no disconnect."""


class Ending:
    """Owns the cause and the token, and sees that the app gets to know.

    An app that never asked for its token is told through `receive`, at once: as if there were no
    middleware. One that did ask has the grace period to wind up by itself; then it is told, and
    cancelled if it still streams.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        host: Host,
        grace_period: float,
        *,
        hand_over: Callable[[], None],
        app_waits: Callable[[], bool],
        must_stop: Callable[[], bool],
    ) -> None:
        self.cause: Cause | None = None
        self.began: float | None = None
        """When the cause came, on the clock of the loop."""
        self._scheduler = scheduler
        self._host = host
        self._grace_period = grace_period
        self._hand_over = hand_over
        self._app_waits = app_waits
        self._must_stop = must_stop
        self._token: CancellationToken | None = None
        self._last_call: float | None = None
        self._alarm = Alarm(scheduler, self._grace_over)

    @property
    def asked(self) -> bool:
        """Whether anybody has asked for the token."""
        return self._token is not None

    @property
    def token(self) -> CancellationToken:
        """The token. Reading this is asking for it."""
        if self._token is None:
            with _token_lock:  # threads may ask as well
                if self._token is None:
                    self._token = CancellationToken()
            # Looked at after the token is there: `begin` does the two the other way round.
            if self.cause is not None:
                self._token.cancel(*self.cause[:3])
        return self._token

    def begin(self, cause: Cause) -> None:
        """Take this for the cause, of a request that has none yet, and cancel the token."""
        self.cause = cause
        self.began = self._scheduler.time()
        if (token := self._token) is not None:
            self._host.watching(lambda: token.cancel(*cause[:3]))

    def tell_app(self) -> None:
        """Hand the disconnect over, at once or when the grace period is over."""
        if self._token is None:
            self._hand_over()
        else:
            assert self.began is not None  # it has begun
            self._alarm.ring_at(self.began + self._grace_period)

    def stop(self) -> None:
        """The app has ended."""
        self._alarm.stop()

    def release(self) -> None:
        """Let go of the token: who asks from now on gets one of his own, cancelled if this was."""
        self._token = None

    def _grace_over(self, now: float) -> float | None:
        if self._last_call is None:
            # From now on, however late that is: the framework has yet to hear of it.
            self._last_call = now + FRAMEWORK_TIME if self._app_waits() else now
            self._hand_over()
        if not self._must_stop():
            return None
        if now < self._last_call:
            return self._last_call
        self._host.cancel()
        return None
