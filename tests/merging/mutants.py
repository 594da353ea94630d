"""Mutants: for each rule of merging, a change of the source that breaks the rule."""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.merging.mutants_of_formats import OF_FORMATS
from tests.merging.mutants_of_the_engine import OF_THE_ENGINE


class Mutant(NamedTuple):
    """A change of one file of the package."""

    file: str
    rule: str
    """The rule that no longer holds."""
    old: str
    """The text to replace, which is in the file exactly once."""
    new: str


MUTANTS: Final = [
    Mutant(file, *change)
    for file, changes in {**OF_THE_ENGINE, **OF_FORMATS}.items()
    for change in changes
]
