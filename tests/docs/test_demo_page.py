"""The demo's page in headless Chromium: its counters, and what happens when the reader leaves."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from examples.demo.check import TOKENS_IN_FLIGHT
from tests.support.servers import PATIENCE, server_process

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SIDES: Final = ("plain", "batched", "merged")
COUNTERS: Final = ("writes", "events", "bytes", "first-text", "updates", "cpu")

FLAGS: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        if os.environ.get("SSE_BATCHING_REQUIRE_BROWSER") == "1":
            pytest.fail("SSE_BATCHING_REQUIRE_BROWSER is set, but Chromium is not installed")
        pytest.skip("Chromium is not installed (Debian: apt install chromium)")
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    """Yield the address of the demo's server, which replays an answer and calls no real model."""
    no_real_model = {"OPENAI_BASE_URL": "", "OPENAI_API_KEY": ""}
    arguments = ("-m", "examples.demo", "--port", "0")
    with server_process(*arguments, environment=no_real_model) as (_, port):
        yield f"http://127.0.0.1:{port}/"


@dataclass
class Side:
    """What the page shows about one side."""

    text: str
    counters: dict[str, float]
    agent: str
    wasted: int


@dataclass
class Shown:
    """What the page shows at the end of a run, and the errors of its scripts."""

    plain: Side
    batched: Side
    merged: Side
    errors: list[str]

    @property
    def sides(self) -> list[Side]:
        return [self.plain, self.batched, self.merged]

    @property
    def behind_middleware(self) -> list[Side]:
        return [self.batched, self.merged]


def open_page(browser: Browser, url: str) -> tuple[Page, list[str]]:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.goto(url)
    return page, errors


def wait_for_text(page: Page, length: int) -> None:
    """Wait until each side has shown this many characters of its answer."""
    for side in SIDES:
        page.wait_for_function(
            "([answer, length]) => document.querySelector(answer).innerText.length >= length",
            arg=[f'.answer[data-side="{side}"]', length],
        )


def look(page: Page, side: str) -> Side:
    agent = page.locator(f'.agent[data-side="{side}"]')
    values = {
        counter: page.locator(f'[data-side="{side}"][data-counter="{counter}"]')
        for counter in COUNTERS
    }
    return Side(
        text=page.locator(f'.answer[data-side="{side}"]').inner_text(),
        counters={name: float(at.get_attribute("data-value") or 0) for name, at in values.items()},
        agent=agent.get_attribute("data-state") or "",
        wasted=int(agent.get_attribute("data-wasted-tokens") or 0),
    )


def look_at_all(page: Page, errors: list[str]) -> Shown:
    plain, batched, merged = (look(page, side) for side in SIDES)
    return Shown(plain, batched, merged, errors)


@pytest.fixture(scope="module")
def complete(browser: Browser, demo: str) -> Shown:
    """Return the page after each answer was read to its end."""
    page, errors = open_page(browser, f"{demo}?tokens_per_second=400")
    page.click("#start")
    page.wait_for_selector('#verdict[data-state="complete"]')
    return look_at_all(page, errors)


@pytest.fixture(scope="module")
def left(browser: Browser, demo: str) -> Shown:
    """Return the page some time after the reader has left in the middle of each answer."""
    page, errors = open_page(browser, demo)
    page.click("#start")
    wait_for_text(page, 160)
    page.click("#leave")
    for side in SIDES[1:]:
        page.wait_for_selector(f'.agent[data-side="{side}"][data-state="interrupted"]')
    page.wait_for_function(
        "() => Number(document.querySelector('.agent[data-side=plain]').dataset.wastedTokens) >= 10"
    )
    return look_at_all(page, errors)


def test_all_sides_show_the_same_answer(complete: Shown) -> None:
    """The text is equal on each side, and has more than a hundred words. Pitfall 43."""
    assert complete.plain.text == complete.batched.text == complete.merged.text
    assert len(complete.plain.text.split()) > 100


def test_answers_are_shown_while_they_stream(left: Shown, complete: Shown) -> None:
    """The page shows a part of each answer when the reader leaves."""
    whole = len(complete.plain.text)
    assert all(0 < len(side.text) < whole for side in left.sides)


def test_sides_behind_the_middleware_take_fewer_writes(complete: Shown) -> None:
    """They take less than half of the writes of the plain side."""
    plain = complete.plain.counters["writes"]
    assert all(side.counters["writes"] < plain / 2 for side in complete.behind_middleware)


def test_sides_behind_the_middleware_update_the_page_less_often(complete: Shown) -> None:
    """They need less than half of the updates for the same text."""
    plain = complete.plain.counters["updates"]
    assert all(side.counters["updates"] < plain / 2 for side in complete.behind_middleware)


def test_batched_side_gets_the_same_events(complete: Shown) -> None:
    """It gets as many events and as many bytes as the plain side."""
    plain, batched = complete.plain.counters, complete.batched.counters
    assert (batched["events"], batched["bytes"]) == (plain["events"], plain["bytes"])


def test_merged_side_gets_fewer_events(complete: Shown) -> None:
    """It gets less than half of the events and less than half of the bytes."""
    plain, merged = complete.plain.counters, complete.merged.counters
    assert merged["events"] < plain["events"] / 2
    assert merged["bytes"] < plain["bytes"] / 2


def test_every_counter_counts(complete: Shown) -> None:
    """No counter of any side stays at zero."""
    assert min(value for side in complete.sides for value in side.counters.values()) > 0


def test_agents_finish_if_the_reader_stays(complete: Shown) -> None:
    """No agent is interrupted, and no token wasted."""
    for side in complete.sides:
        assert (side.agent, side.wasted) == ("finished", 0)


def test_agents_behind_the_middleware_are_interrupted_when_the_reader_leaves(
    left: Shown,
) -> None:
    """They waste no more than the tokens that are in flight at that moment."""
    for side in left.behind_middleware:
        assert side.agent == "interrupted"
        assert side.wasted <= TOKENS_IN_FLIGHT


def test_plain_agent_continues_when_the_reader_leaves(left: Shown) -> None:
    """The page counts the tokens that the agent wastes."""
    assert left.plain.agent == "wasting"
    assert left.plain.wasted >= 10


def test_page_has_no_errors(complete: Shown, left: Shown) -> None:
    """The scripts of the page raise no error, and miss no file."""
    assert complete.errors + left.errors == []
