"""For the tests of streaming apps: both sides of the conversation in your hands.

- `Conversation`: one request, with the server's side of it to play.
- `leave_at_every_point`: the same request again and again, the client leaving a message later each
  time.
- `StreamingTransport`, in `sse_batching.testing.httpx` and `sse_batching.testing.httpx2`: an HTTP
  client for apps in this process that gets each chunk when the app sends it.
- `ManualClockLoop` and `advance`: an event loop whose clock stands still until you turn it.
- `Recorder`: takes down what app and server say to each other.

Free of pytest; runs on asyncio and trio.
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
