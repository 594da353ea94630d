"""The figures of each answer: a `Run`, which other modules fill in and the page shows."""

from __future__ import annotations

import time
from collections import OrderedDict

from starlette.types import Message

from examples.demo.agent import Agent

RUNS_KEPT = 100


class Run:
    """One answer on one side: its writes, its CPU time, and what its agent did."""

    def __init__(self) -> None:
        self.agent: Agent | None = None
        self.writes = 0
        self.bytes_sent = 0
        self.cpu_seconds = 0.0
        self._complete = False
        self._disconnected_at: float | None = None
        self._tokens_at_disconnect = 0

    def sending(self, message: Message) -> None:
        """Note that the app sends `message`. Called before the server gets it."""
        if message["type"] != "http.response.body":
            return
        self._complete = not message.get("more_body", False)
        if body := message.get("body", b""):
            self.writes += 1
            self.bytes_sent += len(body)

    def received(self, message: Message) -> None:
        """Note that the app has received `message`."""
        # Servers also return "http.disconnect" after each complete response, when nobody has left.
        if message["type"] != "http.disconnect" or self._complete:
            return
        if self._disconnected_at is None:
            self._disconnected_at = time.monotonic()
            self._tokens_at_disconnect = self.agent.tokens if self.agent else 0

    def snapshot(self) -> dict[str, object]:
        """Return the figures at this moment, as the page gets them."""
        figures: dict[str, object] = {
            "writes": self.writes,
            "bytes": self.bytes_sent,
            "cpu_ms": round(self.cpu_seconds * 1000, 3),
            "disconnected": self._disconnected_at is not None,
        }
        if agent := self.agent:
            figures |= {"agent": agent.state, "tokens": agent.tokens, "message": agent.message}
            figures["error"] = None if agent.error is None else str(agent.error)
            if self._disconnected_at is not None:
                figures["wasted_tokens"] = agent.tokens - self._tokens_at_disconnect
                if agent.ended_at is not None:
                    stopped_after = max(0.0, agent.ended_at - self._disconnected_at)
                    figures["stopped_after_ms"] = round(stopped_after * 1000, 3)
        return figures


class Runs:
    """The latest runs, by side and by the id that the page has given them."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, dict[str, Run]] = OrderedDict()

    def open(self, run_id: str, side: str) -> Run:
        run = self._runs.setdefault(run_id, {})[side] = Run()
        if len(self._runs) > RUNS_KEPT:
            self._runs.popitem(last=False)
        return run

    def snapshot(self, run_id: str) -> dict[str, dict[str, object]]:
        """Return the figures of each side. Empty before the first request with this id."""
        return {side: run.snapshot() for side, run in self._runs.get(run_id, {}).items()}

    def interrupt_agents(self, message: str) -> None:
        for sides in self._runs.values():
            for run in sides.values():
                if run.agent:
                    run.agent.interrupt(message)
