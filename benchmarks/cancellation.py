"""Measure how soon an agent is told that its client has left, on a server with 1,000 streams.

    python -m benchmarks.cancellation

The clients leave one after another. The time runs from the close of the socket, in the client, to
the token's callback in the event loop, and to the return of `token.wait` in a thread.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from . import report
from .client import request
from .plots import COLOURS, drawing
from .server import TIMEOUT, pin, raise_descriptor_limit, serving
from .workloads import MIDDLEWARE, percentiles

TITLES: Final = {"callback": "callback in the event loop", "thread": "thread that waits"}


class Clients:
    """Many clients in one thread, which read all that the server sends."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._waiting: set[socket.socket] = set()

    def open(self, request: bytes) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self._port))
        client.sendall(request)
        client.setblocking(False)
        self._selector.register(client, selectors.EVENT_READ)
        self._waiting.add(client)
        return client

    def read(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.recv(65_536)
                self._waiting.discard(key.fileobj)

    def read_until_all_started(self) -> None:
        deadline = time.monotonic() + 2 * TIMEOUT
        while self._waiting:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(self._waiting)} streams have not started")
            self.read(0.1)

    def leave(self, client: socket.socket) -> int:
        """Close the client's socket. Return the time just before, in nanoseconds."""
        self._selector.unregister(client)
        now = time.monotonic_ns()
        client.close()
        return now


def measure(streams: int, threads: int, rate: float, pause: float) -> dict[str, list[float]]:
    """Return the milliseconds until each stream was told, in the event loop and in threads."""
    with serving("app", "benchmarks.leaving") as server:
        clients = Clients(server.port)
        opened: dict[str, socket.socket] = {}
        for number in range(streams):
            query = {"name": number, "rate": rate, "phase": (number / streams) / rate}
            if number % (streams // threads) == 0:
                query["thread"] = 1
            opened[str(number)] = clients.open(request("/stream", **query))
            clients.read(0.0001)
        clients.read_until_all_started()
        clients.read(1.0)
        closed = {}
        for name, client in opened.items():
            closed[name] = clients.leave(client)
            clients.read(pause)
        time.sleep(0.5)
        told = httpx.get(f"http://127.0.0.1:{server.port}/told", timeout=TIMEOUT).json()
    if len(told["callback"]) != streams:
        raise RuntimeError(f"only {len(told['callback'])} of {streams} streams were told")
    return {
        how: [(at - closed[name]) / 1e6 for name, at in times.items()]
        for how, times in told.items()
    }


def summary(rounds: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """Return the spread of the percentiles over the rounds."""
    found: dict[str, Any] = {}
    for how in TITLES:
        each = [percentiles(values[how]) for values in rounds]
        found[how] = {
            name: report.spread([percentile[place] for percentile in each])
            for place, name in enumerate(("p50", "p99", "max"))
        }
    return found


def markdown(found: Mapping[str, Any]) -> str:
    lines = ["| ms from the close | p50 | p99 | max |", "| --- | --: | --: | --: |"]
    for how, title in TITLES.items():
        cells = (f"{found[how][name]['median']:.2f}" for name in ("p50", "p99", "max"))
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def draw(rounds: Sequence[Mapping[str, Sequence[float]]], path: Path) -> None:
    """Draw the share of the streams that were told, over the milliseconds."""
    with drawing(path, 1, (5.2, 2.8)) as (axis,):
        for how, colour in (("callback", COLOURS[MIDDLEWARE]), ("thread", COLOURS["bare"])):
            values = np.sort(np.concatenate([np.array(values[how]) for values in rounds]))
            share = np.arange(1, len(values) + 1) / len(values) * 100
            axis.plot(values, share, color=colour, label=TITLES[how], linewidth=2)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.grid()
        axis.set_xlabel("ms from the close of the socket")
        axis.set_ylabel("% of the streams told")
        axis.legend(loc="lower right")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument(
        "--threads", type=int, default=50, help="streams that have a thread as well"
    )
    parser.add_argument("--rate", type=float, default=10, help="events a second on each stream")
    parser.add_argument(
        "--pause", type=float, default=0.005, help="seconds from one client that leaves to the next"
    )
    parser.add_argument("--output", type=Path, default=report.RESULTS, help="folder of the results")
    options = parser.parse_args()
    raise_descriptor_limit()
    pin(1)
    rounds = [
        measure(options.streams, options.threads, options.rate, options.pause)
        for _ in range(options.rounds)
    ]
    found = summary(rounds)
    options.output.mkdir(parents=True, exist_ok=True)
    load = {name: getattr(options, name) for name in ("streams", "threads", "rate", "pause")}
    report.write_json(
        options.output / "cancellation.json",
        {**report.about(), "load": load, "summary": found},
    )
    table = markdown(found)
    (options.output / "cancellation.md").write_text(table)
    draw(rounds, options.output / "cancellation.svg")
    print(table)


if __name__ == "__main__":
    main()
