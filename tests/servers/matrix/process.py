"""One server in a process of its own: its log, and what its app tells through the pipe."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

from sse_batching import CancelReason
from tests.servers.matrix.kinds import APP, Kind
from tests.servers.matrix.ways import Connection, Http1, Http2
from tests.support.servers import PATIENCE, REPOSITORY

Line: TypeAlias = dict[str, Any]

END: Final = "\n"
"""What we write into the pipe for the thread that reads it to end."""

TRACEBACK: Final = "Traceback (most recent call last)"


class Lines:
    """Lines that another process writes, for a test that waits for one of them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._over = False
        self._changed = threading.Condition()

    def read(self, file: IO[str], end: str = "") -> None:
        """Read to the end: the work of a thread."""
        with file:
            for line in iter(file.readline, end):
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def wait_for(self, found: Callable[[list[str]], bool]) -> bool:
        """Wait until it is found, or nothing more can come; whether it was found."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or found(self.lines), PATIENCE)
            return found(self.lines)


class Server:
    """A server that runs, and its address."""

    def __init__(self, kind: Kind, command: list[str], port: int, pipe: Path) -> None:
        self.kind = kind
        self.port = port
        self.log = Lines()
        self._told = Lines()
        self._names = iter(range(1_000_000))
        os.mkfifo(pipe)
        # Opened both ways, it can be opened before the app does, and is at its end when we say so.
        self._pipe = os.open(pipe, os.O_RDWR)
        self._process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "SERVER_MATRIX_PIPE": str(pipe)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # some have workers, which must not outlive a test that fails
        )
        assert self._process.stdout is not None  # it is a pipe
        self._readers = [
            threading.Thread(target=self.log.read, args=[self._process.stdout]),
            threading.Thread(
                target=self._told.read, args=[os.fdopen(self._pipe, closefd=False), END]
            ),
        ]
        for reader in self._readers:
            reader.start()
        try:
            self._wait_until_it_listens()
        except BaseException:
            self._kill()
            raise

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                running = self._process.poll() is None and time.monotonic() < deadline
                assert running, self.log.lines
                time.sleep(0.02)
            else:
                return

    # For the tests.

    def connect(self) -> Connection:
        """A connection of the protocol that this kind is about."""
        return Http2(self.port) if self.kind.http2 else Http1(self.port)

    def new_name(self) -> str:
        """For the next request."""
        return f"request-{next(self._names)}"

    def told(self, name: str, what: str) -> list[Line]:
        """What the app has told of this kind up to now."""
        every = [json.loads(line) for line in self._told.lines if f'"{name}"' in line]
        return [line for line in every if line["what"] == what]

    def wait_until(self, name: str, what: str) -> Line:
        """Wait until the app has told this of a request."""
        found = self._told.wait_for(lambda _: bool(self.told(name, what)))
        assert found, f"no {what!r} of {name} in {self._told.lines[-20:]}; {self.log.lines[-20:]}"
        return self.told(name, what)[0]

    def wait_for_more(self, name: str, what: str, times: int) -> None:
        """Wait until the app has told this so many more times, or of the end of the request."""
        many = len(self.told(name, what)) + times
        found = self._told.wait_for(
            lambda _: len(self.told(name, what)) >= many or bool(self.told(name, "over"))
        )
        assert found, f"{name} does not go on: {self._told.lines[-20:]}"

    def cancellations(self, name: str) -> list[CancelReason]:
        """How often the token of a request was cancelled, and why."""
        return [CancelReason(line["reason"]) for line in self.told(name, "cancelled")]

    def expect_a_clean_end(self, name: str) -> None:
        """Wait for the end of a request: its generator is closed, no callback waits for its token,
        the server hears of no exception, and the report says of it what the token did."""
        self.wait_until(name, "closed")
        over = self.wait_until(name, "over")
        assert (over["callbacks"], over["raised"]) == (0, None)
        cancelled = self.cancellations(name)
        expected = ("incomplete", cancelled[0]) if cancelled else ("completed", None)
        reported = [(line["outcome"], line["reason"]) for line in self.told(name, "reported")]
        assert reported == [expected]

    def aside(self, path: str) -> bytes:
        """Ask on a connection apart, beside the middleware."""
        with Http1(self.port) as client:
            client.ask(path)
            client.read_to_the_end()
            return client.body

    def left_behind(self) -> list[str]:
        """What is left of the middleware's when nothing is going on; a moment later, that is: what
        was cancelled may need a turn of the loop to end."""
        deadline = time.monotonic() + PATIENCE
        while True:
            left: list[str] = json.loads(self.aside("/state"))["left"]
            if not left or time.monotonic() > deadline:
                return left

    def tracebacks(self) -> list[str]:
        """Of the log, from the first traceback on."""
        lines = self.log.lines
        first = next((n for n, line in enumerate(lines) if TRACEBACK in line), len(lines))
        return lines[first:]

    # Its end.

    def terminate(self) -> None:
        """Send SIGTERM, as the one who runs it does."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Wait for its end, and until all that the app has told is here; the exit code."""
        code = self._process.wait(PATIENCE)
        os.write(self._pipe, b'{"request": "none", "what": "ended"}\n')
        self.wait_until("none", "ended")
        return code

    def end(self) -> None:
        """Let nothing of it be left, whatever it was doing."""
        self.terminate()
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._kill()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):  # all of it has ended
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.write(self._pipe, END.encode())
        for reader in self._readers:
            reader.join()
        os.close(self._pipe)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(
    kind: Kind, directory: Path, *, app: str = APP, limited: bool = False
) -> Iterator[Server]:
    """Run a server; at the end it gets SIGTERM."""
    port = free_port()  # granian does not say which one it has chosen
    server = Server(kind, kind.command(port, app, limited=limited), port, directory / "pipe")
    try:
        yield server
    finally:
        server.end()
