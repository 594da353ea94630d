"""Make a plan simpler, as long as its run shows a fault of the same kind."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from tests.fuzz.plan import Plan, default_of

T = TypeVar("T")

MAX_RUNS: Final = 600
TAG: Final = re.compile(rb"<[\d.]+>")
"""What tells a chunk from all others."""


def shrink(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """Return the simplest plan that was found, beginning with a plan that fails.

    Leaves out one thing after the other, and keeps what is left if it still fails.
    """
    runs = 0
    found = True
    while found:
        found = False
        for simpler in list(_simpler(plan)):
            runs += 1
            if runs > MAX_RUNS:
                return plan
            if fails(simpler):
                plan, found = simpler, True
                break
    return plan


def _simpler(thing: T) -> Iterator[T]:
    """Yield each thing that is one step simpler, the largest steps first."""
    if isinstance(thing, bytes):
        if (tag := TAG.search(thing)) and len(thing) > len(tag[0]):
            yield tag[0]  # type: ignore[misc]
    elif isinstance(thing, tuple):
        yield from _shorter(thing)
        for number, part in enumerate(thing):
            for simpler in _simpler(part):
                yield (*thing[:number], simpler, *thing[number + 1 :])  # type: ignore[misc]
    elif dataclasses.is_dataclass(thing):
        yield from _with_simpler_field(thing)


def _shorter(things: Any) -> Iterator[Any]:
    """Yield the tuple without its first half, without its second half, and without each part."""
    if len(things) > 3:
        yield things[len(things) // 2 :]
        yield things[: len(things) // 2]
    for number in range(len(things) - 1, -1, -1):
        yield things[:number] + things[number + 1 :]


def _with_simpler_field(thing: Any) -> Iterator[Any]:
    for item in dataclasses.fields(thing):
        value, default = getattr(thing, item.name), default_of(item)
        if item.name == "seed" or value == default:
            continue
        if default is not dataclasses.MISSING:
            yield dataclasses.replace(thing, **{item.name: default})
        for simpler in _simpler(value):
            yield dataclasses.replace(thing, **{item.name: simpler})
