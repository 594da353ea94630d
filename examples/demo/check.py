"""The demo without a screen: `python -m examples.demo --check`.

A client reads each side to its end. Then it reads each side again, and leaves in the middle. The
check prints the figures that the page shows. It names each figure that is wrong, and exits with 1
then.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from examples.demo.agent import ANSWER, TOKENS_PER_SECOND, replay
from examples.demo.server import FASTEST, Server, create_app

SIDES = ("plain", "batched", "merged")
BEHIND_MIDDLEWARE = SIDES[1:]
CHARACTERS_BEFORE_LEAVING = 400
PATIENCE = 30.0  # seconds after which a step counts as hanging

# When the client leaves, the agent's thread may have got one token that it has not counted yet.
# That token is spent. More than one must not be.
TOKENS_IN_FLIGHT = 1

# Generous, because a busy machine is not the middleware's fault. The middleware sends the first
# text of an answer at once; to batch it would add 50 ms.
FIRST_TEXT_TOLERANCE_MS = 500.0

Figures = dict[str, Any]
"""The server's figures for one side of a run, see `Run.snapshot`."""


@dataclass
class Reading:
    """What the client has read of one answer."""

    body: bytes = b""
    text: str = ""
    events: int = 0
    without_text: list[bytes] = field(default_factory=list)
    """The events that have no text: the role, the end."""
    reads: int = 0
    first_text_ms: float = 0.0


def check() -> int:
    """Run the check and return its exit code."""
    faults: list[str] = []
    try:
        with _serving() as url:
            faults += asyncio.run(asyncio.wait_for(_check(url), PATIENCE * 2))
    except TimeoutError as error:
        faults.append(f"a step hangs: {error or 'the check did not end'}")
    except httpx.HTTPError as error:
        faults.append(f"the server does not answer: {error!r}")
    for fault in faults:
        print(f"WRONG: {fault}", file=sys.stderr)
    if not faults:
        print("Everything is as expected.")
    return 1 if faults else 0


@contextmanager
def _serving() -> Iterator[str]:
    """Run the demo's server on a free port, in a thread. Yield its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    # Always the replay, even if the environment names a real model's server.
    app = create_app(lambda tokens_per_second: replay(tokens_per_second=tokens_per_second))
    server = Server(app)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listener.close()
    if thread.is_alive():
        raise TimeoutError("the server did not stop")


async def _check(url: str) -> list[str]:
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
        print("Reading the answer to its end, then reading it again and leaving in the middle...")
        # The warm-up does what a process does only once, so that no side's CPU time includes it.
        await _read_all(client, "warm-up", pace=FASTEST)
        readings = await _read_all(client, "whole")
        figures = await _figures_when(client, "whole", _all_agents_ended)
        _print_whole(readings, figures)
        faults = list(_faults_of_whole(readings, figures))

        await _read_all(client, "left", characters=CHARACTERS_BEFORE_LEAVING)
        figures = await _figures_when(client, "left", _shows_what_agents_do)
        _print_left(figures)
        return [*faults, *_faults_of_left(figures)]


async def _read_all(
    client: httpx.AsyncClient,
    run: str,
    *,
    characters: int | None = None,
    pace: float = TOKENS_PER_SECOND,
) -> dict[str, Reading]:
    """Read each side's answer to its end, or leave once more than `characters` have come."""
    query = {"run": run, "tokens_per_second": pace}
    urls = [httpx.URL(f"/{side}/chat", params=query) for side in SIDES]
    readings = await asyncio.gather(*(_read(client, url, characters) for url in urls))
    return dict(zip(SIDES, readings, strict=True))


async def _read(client: httpx.AsyncClient, url: httpx.URL, characters: int | None) -> Reading:
    reading = Reading()
    started = time.monotonic()
    async with client.stream("GET", url) as response:
        response.raise_for_status()
        unread = b""
        async for received in response.aiter_raw():
            reading.reads += 1
            reading.body += received
            *events, unread = (unread + received).split(b"\n\n")
            for event in events:
                reading.events += 1
                if text := _text(event):
                    reading.text += text
                else:
                    reading.without_text.append(event)
            if reading.text and not reading.first_text_ms:
                reading.first_text_ms = (time.monotonic() - started) * 1000
            if characters is not None and len(reading.text) > characters:
                break  # closes the connection
    return reading


def _text(event: bytes) -> str:
    data = event.removeprefix(b"data: ")
    if data == b"[DONE]":
        return ""
    text: str = json.loads(data)["choices"][0]["delta"].get("content", "")
    return text


async def _figures_when(
    client: httpx.AsyncClient, run: str, condition: Callable[[dict[str, Figures]], bool]
) -> dict[str, Figures]:
    """Return the figures as soon as `condition` holds, or the latest after `PATIENCE / 3`.

    The second case raises no error, because the figures then show what is wrong.
    """
    deadline = time.monotonic() + PATIENCE / 3
    while True:
        figures: dict[str, Figures] = (await client.get(f"/runs/{run}")).json()
        if condition(figures) or time.monotonic() > deadline:
            return figures
        await asyncio.sleep(0.02)


def _all_agents_ended(figures: dict[str, Figures]) -> bool:
    return all(side["agent"] not in ("waiting", "running") for side in figures.values())


def _shows_what_agents_do(figures: dict[str, Figures]) -> bool:
    """Return True once the plain side has wasted clearly more than tokens in flight.

    The agents of the other sides must have stopped, too.
    """
    wasted: int = figures["plain"].get("wasted_tokens", 0)
    return wasted > 20 * TOKENS_IN_FLIGHT and all(
        figures[side]["agent"] != "running" for side in BEHIND_MIDDLEWARE
    )


def _faults_of_whole(readings: dict[str, Reading], figures: dict[str, Figures]) -> Iterator[str]:
    plain, batched, merged = (readings[side] for side in SIDES)
    for side in SIDES:
        if readings[side].text != ANSWER:
            yield f"{side}: the text read is not the agent's answer"
        if figures[side]["bytes"] != len(readings[side].body):
            yield f"{side}: {figures[side]['bytes']} bytes sent, {len(readings[side].body)} read"
        if figures[side]["agent"] != "finished" or figures[side]["disconnected"]:
            yield f"{side}: the client stayed, but the agent is {figures[side]['agent']}"
    if figures["plain"]["writes"] < plain.events:
        yield f"plain: {figures['plain']['writes']} writes for {plain.events} events"
    for side in BEHIND_MIDDLEWARE:
        if figures[side]["writes"] * 2 > figures["plain"]["writes"]:
            yield f"{side}: more than half as many writes as plain"
        if (late := readings[side].first_text_ms - plain.first_text_ms) > FIRST_TEXT_TOLERANCE_MS:
            yield f"{side}: first text {late:.0f} ms later than plain"
    if plain.body != batched.body:
        yield "batched: the bytes are not those of plain"
    if merged.events * 2 > plain.events:
        yield "merged: more than half as many events as plain"
    if merged.without_text != plain.without_text:
        yield "merged: the events without text are not those of plain"


def _faults_of_left(figures: dict[str, Figures]) -> Iterator[str]:
    for side in SIDES:
        if not figures[side]["disconnected"]:
            yield f"{side}: the server did not notice that the client left"
    if not figures["plain"].get("wasted_tokens", 0):
        yield "plain: no token was wasted, so the demo shows nothing"
    for side in BEHIND_MIDDLEWARE:
        agent = figures[side]["agent"]
        message = figures[side]["message"]
        if agent != "interrupted":
            yield f"{side}: the client left, but the agent is {agent}"
        elif message != "SSE client disconnected":
            yield f"{side}: the agent was interrupted with {message!r}"
        if (wasted := figures[side].get("wasted_tokens", 0)) > TOKENS_IN_FLIGHT:
            yield f"{side}: {wasted} tokens wasted"


def _print_whole(readings: dict[str, Reading], figures: dict[str, Figures]) -> None:
    _print_row("\nThe whole answer", SIDES)
    _print_row("writes on the wire", [figures[side]["writes"] for side in SIDES])
    _print_row("events", [readings[side].events for side in SIDES])
    _print_row("bytes", [figures[side]["bytes"] for side in SIDES])
    _print_row("first text (ms)", [f"{readings[side].first_text_ms:.1f}" for side in SIDES])
    _print_row("page updates (reads)", [readings[side].reads for side in SIDES])
    _print_row("server CPU (ms)", [f"{figures[side]['cpu_ms']:.1f}" for side in SIDES])


def _print_left(figures: dict[str, Figures]) -> None:
    _print_row("\nLeft in the middle", SIDES)
    _print_row("agent", [figures[side]["agent"] for side in SIDES])
    _print_row("stopped after (ms)", [figures[side].get("stopped_after_ms", "-") for side in SIDES])
    _print_row("wasted tokens", [figures[side].get("wasted_tokens", 0) for side in SIDES])
    print()


def _print_row(label: str, values: Iterable[object]) -> None:
    print(f"{label:<26}" + "".join(f"{value!s:>14}" for value in values))
