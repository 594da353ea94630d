"""Merging: the adjacent text deltas of a batch become one event.

`Merger` takes the bytes of a stream, and gives them back with fewer events. What may be merged is
said by formats (`sse_batching.formats`), whose delta events are described by rules, as data.
"""

from ._formats import Format, JSONFormat
from ._merger import Merger
from ._rules import Rule

__all__ = ["Format", "JSONFormat", "Merger", "Rule"]
