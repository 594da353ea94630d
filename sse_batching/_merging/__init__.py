"""Merging: adjacent text deltas of a batch become one event.

`Merger` takes the bytes of a stream and returns them with fewer events. Formats
(`sse_batching.formats`) decide which events may be merged. Most formats describe their delta events
by rules, which are data.
"""

from ._formats import Format, JSONFormat
from ._merger import Merger
from ._rules import Rule
from ._template import Urgency

__all__ = ["Format", "JSONFormat", "Merger", "Rule", "Urgency"]
