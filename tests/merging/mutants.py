"""Mutants: the rules of merging, each with a change of the source that breaks it."""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.merging.mutants_of_formats import OF_FORMATS
from tests.merging.mutants_of_the_engine import OF_THE_ENGINE


class Mutant(NamedTuple):
    """A change of a file of the package."""

    file: str
    rule: str
    """Which no longer holds."""
    old: str
    """What is in the file, once."""
    new: str


MUTANTS: Final = [
    Mutant(file, *change)
    for file, changes in {**OF_THE_ENGINE, **OF_FORMATS}.items()
    for change in changes
]
