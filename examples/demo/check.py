"""The demo without a screen: ``python -m examples.demo --check``.

A client reads both sides to their end, then both again and leaves in the middle. The figures that
the page shows are printed; if one of them is wrong, it is named, and the exit code is 1.
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
from dataclasses import dataclass
from typing import Any

import httpx

from examples.demo.agent import ANSWER, replay
from examples.demo.server import Server, create_app

SIDES = ("plain", "batched")
TOKENS_BEFORE_LEAVING = 100
PATIENCE = 30.0  # seconds that anything here may take; what takes longer hangs

# The last token can be on its way from the model when the client leaves: the agent's thread has
# it, but not yet counted it. It cannot be unspent. Any more must not be.
TOKENS_IN_FLIGHT = 1

# Generous, because a busy machine is no fault of the middleware: the first text of an answer is
# sent at once, where batching it would add 50 ms.
FIRST_TEXT_TOLERANCE_MS = 500.0

Figures = dict[str, Any]
"""What the server says of one side of a run: ``Run.snapshot``."""


@dataclass
class Reading:
    """What the client got of one answer."""

    body: bytes = b""
    text: str = ""
    events: int = 0
    reads: int = 0
    first_text_ms: float = 0.0


def check() -> int:
    """Run the check and return its exit code."""
    faults: list[str] = []
    try:
        with _serving() as url:
            faults += asyncio.run(asyncio.wait_for(_check(url), PATIENCE * 2))
    except TimeoutError as error:
        faults.append(f"something hangs: {error or 'the check did not end'}")
    except httpx.HTTPError as error:
        faults.append(f"the server does not answer: {error!r}")
    for fault in faults:
        print(f"WRONG: {fault}", file=sys.stderr)
    if not faults:
        print("All as it should be.")
    return 1 if faults else 0


@contextmanager
def _serving() -> Iterator[str]:
    """The demo's server on a free port, in a thread; yields its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    # Always the replay, also where the environment names a real model's server.
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
        print("Reading the answer to its end, and then once more to leave in the middle...")
        readings = await _read_both(client, "whole")
        figures = await _figures_when(client, "whole", _all_agents_ended)
        _print_whole(readings, figures)
        faults = list(_faults_of_whole(readings, figures))

        await _read_both(client, "left", tokens=TOKENS_BEFORE_LEAVING)
        figures = await _figures_when(client, "left", _shows_what_agents_do)
        _print_left(figures)
        return [*faults, *_faults_of_left(figures)]


async def _read_both(
    client: httpx.AsyncClient, run: str, tokens: int | None = None
) -> dict[str, Reading]:
    readings = await asyncio.gather(*(_read(client, side, run, tokens) for side in SIDES))
    return dict(zip(SIDES, readings, strict=True))


async def _read(client: httpx.AsyncClient, side: str, run: str, tokens: int | None) -> Reading:
    """Read an answer to its end, or leave after so many ``tokens``."""
    reading = Reading()
    started = time.monotonic()
    async with client.stream("GET", f"/{side}/chat", params={"run": run}) as response:
        response.raise_for_status()
        unread = b""
        async for received in response.aiter_raw():
            reading.reads += 1
            reading.body += received
            *events, unread = (unread + received).split(b"\n\n")
            for event in events:
                reading.events += 1
                reading.text += _text(event)
            if reading.text and not reading.first_text_ms:
                reading.first_text_ms = (time.monotonic() - started) * 1000
            if tokens is not None and reading.events > tokens:
                break  # closes the connection: the rest of the answer is not wanted
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
    """The run's figures as soon as ``condition`` holds for them, or the last before patience ends.

    Giving up is no error here: the figures then show what is wrong.
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
    """Enough was wasted on the plain side to tell it from tokens in flight."""
    wasted: int = figures["plain"].get("wasted_tokens", 0)
    return wasted > 20 * TOKENS_IN_FLIGHT and figures["batched"]["agent"] != "running"


def _faults_of_whole(readings: dict[str, Reading], figures: dict[str, Figures]) -> Iterator[str]:
    plain, batched = readings["plain"], readings["batched"]
    for side in SIDES:
        if readings[side].text != ANSWER:
            yield f"{side}: the text read is not the agent's answer"
        if figures[side]["bytes"] != len(readings[side].body):
            yield f"{side}: {figures[side]['bytes']} bytes sent, {len(readings[side].body)} read"
        if figures[side]["agent"] != "finished" or figures[side]["disconnected"]:
            yield f"{side}: the client stayed, but the agent is {figures[side]['agent']}"
    if plain.body != batched.body:
        yield "the two sides sent different bytes"
    if figures["plain"]["writes"] < plain.events:
        yield f"plain: {figures['plain']['writes']} writes for {plain.events} events"
    if figures["batched"]["writes"] * 2 > figures["plain"]["writes"]:
        yield "batched: not even half as few writes as plain"
    if batched.first_text_ms > plain.first_text_ms + FIRST_TEXT_TOLERANCE_MS:
        yield f"batched: first text {batched.first_text_ms - plain.first_text_ms:.0f} ms later"


def _faults_of_left(figures: dict[str, Figures]) -> Iterator[str]:
    plain, batched = figures["plain"], figures["batched"]
    for side in SIDES:
        if not figures[side]["disconnected"]:
            yield f"{side}: the server did not notice that the client left"
    if not plain.get("wasted_tokens", 0):
        yield "plain: no token wasted, so there is nothing to be shown"
    if batched["agent"] != "interrupted":
        yield f"batched: the client left, and the agent is {batched['agent']}"
    elif batched["message"] != "SSE client disconnected":
        yield f"batched: the agent was interrupted with {batched['message']!r}"
    if (wasted := batched.get("wasted_tokens", 0)) > TOKENS_IN_FLIGHT:
        yield f"batched: {wasted} tokens spent on nobody"


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
    _print_row("tokens spent on nobody", [figures[side].get("wasted_tokens", 0) for side in SIDES])
    print()


def _print_row(label: str, values: Iterable[object]) -> None:
    print(f"{label:<26}" + "".join(f"{value!s:>14}" for value in values))
