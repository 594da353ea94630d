"""Helpers for tests of streaming apps, without a server, a network or real waiting.

- `Conversation`: one request to an app. The test plays the server and the client.
- `leave_at_every_point`: the same request again and again, with a client that leaves one message
  later each time.
- `StreamingTransport`, in `sse_batching.testing.httpx` and `sse_batching.testing.httpx2`: connects
  the client of httpx or httpx2 to an app in the same process, and hands over each chunk when the
  app sends it.
- `ManualClockLoop` and `advance`: an event loop whose clock the test moves.
- `Recorder`: records the messages between an app and its server.

All of it runs on asyncio and trio (`ManualClockLoop` on asyncio only: trio has `MockClock`), and
with any test framework.
"""

from ._clock import ManualClockLoop, advance
from ._conversation import Conversation, Sent
from ._leaving import leave_at_every_point
from ._recorder import Recorded, Recorder, Recording

__all__ = [
    "Conversation",
    "ManualClockLoop",
    "Recorded",
    "Recorder",
    "Recording",
    "Sent",
    "advance",
    "leave_at_every_point",
]
