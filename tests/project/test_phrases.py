"""codespell finds each phrase of phrases.txt, and finds nothing in plain text."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.servers import REPOSITORY

LINES: Final = (REPOSITORY / "phrases.txt").read_text(encoding="utf-8").splitlines()
FORBIDDEN: Final = dict(line.split("->") for line in LINES)
"""Each phrase, and the words to use in its place. The comma at the end tells codespell that these
words are advice, and not a correction to apply by itself."""

PLAIN: Final = [
    "Nothing is forbidden in this sentence.",
    "await anyio.sleep_forever()",
    'if any("data" in line for line in lines) and "id" in line: pass',
    "The same kind of event; the history of the client; akin to it.",
    "What the servers say. Empty if the event does not say.",
    "tasks.add_task(say, name)",
    "The loops come to an end, and the window goes up.",
    "The first of several; the ones that wait; which one is it?",
    "def test_winding_up() -> None:",
]
"""Code and words that resemble a phrase, and are allowed."""


class Finding(NamedTuple):
    line: int
    phrase: str
    plainer: str


def codespell(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run codespell with the settings of the project."""
    command = [sys.executable, "-m", "codespell_lib", *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, input=text, capture_output=True, text=True, check=False
    )


def findings(lines: list[str]) -> list[Finding]:
    """Return what codespell finds in these lines."""
    done = codespell("--stdin-single-line", "-", text="\n".join(lines))
    assert done.stderr == ""
    rows = re.findall(r"^(\d+): (.+) ==> (.+)$", done.stdout, re.MULTILINE)
    return [Finding(int(line), phrase, plainer) for line, phrase, plainer in rows]


def test_each_phrase_is_found_with_plainer_words() -> None:
    """A phrase of several words is only looked up if `regex` in pyproject.toml names it."""
    found = findings([f"There is some text {phrase} and more text." for phrase in FORBIDDEN])
    assert found == [
        (line, phrase, words.removesuffix(","))
        for line, (phrase, words) in enumerate(FORBIDDEN.items(), 1)
    ]


def test_each_phrase_is_found_at_the_start_of_a_sentence() -> None:
    """A capital letter makes no difference."""
    found = findings([f"# {phrase.capitalize()} and more text." for phrase in FORBIDDEN])
    assert [(line, phrase.lower()) for line, phrase, _ in found] == [*enumerate(FORBIDDEN, 1)]


def test_no_phrase_is_proposed_for_another() -> None:
    """The linter accepts the words that it proposes."""
    words = [word for words in FORBIDDEN.values() for word in words.split(",")]
    assert findings([f"There is some text {word.strip()} and more text." for word in words]) == []


def test_plain_text_passes() -> None:
    """The linter does not mistake other words and code for a phrase."""
    assert findings(PLAIN) == []


def test_the_regular_expression_names_the_same_phrases() -> None:
    """A phrase that phrases.txt does not have would look forbidden, and never be found."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    regex = settings["tool"]["codespell"]["regex"]
    listed = re.search(r"\\b\(\?:\n(.*)\)\(\?!\\w\)", regex, re.DOTALL)
    assert listed is not None
    named = [re.sub(r"\\(.)", r"\1", phrase.strip()) for phrase in listed[1].split("|")]
    assert named == [phrase for phrase in FORBIDDEN if not phrase.isalpha()]


def test_a_finding_names_file_and_line_and_fails(tmp_path: Path) -> None:
    """`make lint` fails, and says where the phrase is."""
    phrase, words = next(iter(FORBIDDEN.items()))
    file = tmp_path / "module.py"
    file.write_text(f"first = 1\nsecond = 2  # {phrase}\n", encoding="utf-8")
    done = codespell(str(file))
    assert done.stdout == f"{file}:2: {phrase} ==> {words.removesuffix(',')}\n"
    assert done.returncode != 0
