"""Run thousands of streams through one server, and judge them by what both sides report."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any, Final

import h11
import psutil

from tests.soak.client import Connection, Seen, converse
from tests.soak.findings import UNKNOWN, Findings
from tests.soak.plan import Plan, draw
from tests.soak.record import Record, State
from tests.soak.rules import faults, may_be_unknown
from tests.soak.servers import serving

SAMPLES: Final = 400
"""The number of times that the memory is measured."""

QUIET_AFTER: Final = 20.0
"""Seconds within which the last requests have to end and the server has to release them."""

LOOK_EVERY: Final = 0.05
"""Seconds between two requests for the records of ended streams."""


def soak(server: str, *, seed: int, streams: int, at_once: int) -> Findings:
    """Run the soak once against one server."""
    with serving(server) as (process, port):
        run = _Run(port, seed=seed, streams=streams, at_once=at_once)
        asyncio.run(run.run())
        ready = len(process.lines)
    found = run.found
    found.output += [line for line in process.lines[:ready] if "INFO" not in line]
    found.judge()
    return found


class _Run:
    def __init__(self, port: int, *, seed: int, streams: int, at_once: int) -> None:
        self.found = Findings(streams=streams)
        self._port = port
        self._watch = Connection(port)
        self._seed = seed
        self._at_once = at_once
        self._seen: dict[int, tuple[Plan, Seen]] = {}
        self._records: dict[int, Record] = {}
        self._given_up: dict[int, asyncio.Event] = {}
        self._judged = 0

    async def run(self) -> None:
        states, streams = self.found.states, self.found.streams
        await self._connect()
        states["begin"] = await self._state()
        began = time.monotonic()
        warm_up = streams // 10
        await self._pass_through(range(warm_up), samples=0)
        states["warm"] = await self._quiet()
        await self._pass_through(range(warm_up, streams), samples=SAMPLES)
        self.found.garbage = sum((await self._state()).uncollected.values())
        states["end"] = await self._quiet()
        self.found.seconds = time.monotonic() - began
        self._watch.close()

    async def _connect(self) -> None:
        """Retry until the server answers. Some servers say that they listen before they do."""
        deadline = time.monotonic() + QUIET_AFTER
        while True:
            try:
                await self._fetch()  # the first request makes what lives as long as the server
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(LOOK_EVERY)

    async def _get(self, target: str) -> Any:
        """Send a request on one connection, or on a new one if the server closed that as idle."""
        while True:
            used = self._watch.used
            try:
                if not self._watch.is_open:
                    await self._watch.open()
                return json.loads(await self._watch.get(target))
            except (OSError, h11.RemoteProtocolError):
                self._watch.close()
                self._watch = Connection(self._port)
                if not used:
                    raise

    async def _pass_through(self, numbers: range, *, samples: int) -> None:
        """Run these streams, `at_once` of them at a time."""
        process = psutil.Process(self.found.states["begin"].process)
        left, already, memory = iter(numbers), self._judged, self.found.memory
        clients = [asyncio.create_task(self._client(left)) for _ in range(self._at_once)]
        while not all(client.done() for client in clients):
            await asyncio.sleep(LOOK_EVERY)
            await self._fetch()
            while len(memory) * len(numbers) < (self._judged - already) * samples:
                memory.append(process.memory_info().rss)
        for client in clients:
            client.result()

    async def _client(self, numbers: Iterator[int]) -> None:
        connection = Connection(self._port)
        for number in numbers:
            plan, seen = draw(self._seed, number), None
            given_up = self._given_up[number] = asyncio.Event()
            while seen is None:
                if not connection.is_open:
                    connection = await Connection(self._port).open()
                seen = await converse(connection, plan, given_up)
            self._seen[number] = (plan, seen)
            self._judge(number)
        connection.close()

    async def _fetch(self) -> None:
        for fields in await self._get("/ended"):
            record = Record(**fields)
            if record.number not in self._given_up:
                self.found.faults.append(f"ended too late, or twice: {record}")
                continue
            self._records[record.number] = record
            self._given_up[record.number].set()
            self._judge(record.number)

    def _judge(self, number: int, *, is_unknown: bool = False) -> None:
        """Apply the rules as soon as both the client and the server have reported."""
        if number not in self._seen or (number not in self._records and not is_unknown):
            return
        plan, seen = self._seen.pop(number)
        record = self._records.pop(number, None)
        del self._given_up[number]
        self._judged += 1
        self.found.outcomes[_kind(record)] += 1
        if record is not None:
            self.found.closed_late = max(self.found.closed_late, record.closed_late)
        for fault in faults(plan, seen, record):
            got = f"status {seen.status}, {len(seen.body)} bytes"
            self.found.faults.append(f"{fault}\n    {plan}\n    {got}\n    {record}")

    async def _state(self) -> State:
        return State(**await self._get("/state"))

    async def _quiet(self) -> State:
        """Wait until the last requests have ended and the server is as it was. Return its state."""
        deadline = time.monotonic() + QUIET_AFTER
        while True:
            await asyncio.sleep(LOOK_EVERY)
            await self._fetch()
            waits = any(not may_be_unknown(plan) for plan, _ in self._seen.values())
            if not waits and self._is_as_it_was(state := await self._state()):
                break
            if time.monotonic() > deadline:
                state = await self._state()
                break
        for number in list(self._seen):  # streams that never reached the server, or never ended
            self._judge(number, is_unknown=True)
        return state

    def _is_as_it_was(self, state: State) -> bool:
        begin = self.found.states["begin"]
        return (
            (state.tasks, state.descriptors) == (begin.tasks, begin.descriptors)
            and state.open == 0
            and state.own == begin.own
        )


def _kind(record: Record | None) -> str:
    if record is None:
        return UNKNOWN
    if record.outcome is None:
        return "not a stream"
    return f"{record.outcome} {record.reason or ''}".rstrip()
