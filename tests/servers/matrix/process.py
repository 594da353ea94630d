"""One server in a process of its own, its log, and the records that its app writes to the pipe."""

from __future__ import annotations

import json
import os
import re
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

Record: TypeAlias = dict[str, Any]

END: Final = "\n"
"""The line that ends the thread that reads the pipe."""

TRACEBACK: Final = "Traceback (most recent call last)"

PYVOYS_OWN: Final = re.compile(
    r"Exception in callback <built-in method set_result.*?InvalidStateError: invalid state",
    re.DOTALL,
)
"""What pyvoy logs when a `send` that it has kept waiting was cancelled: it sets the result of the
cancelled future once the client reads or leaves."""


class Lines:
    """Lines that another process writes, for a test that waits for one of them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._at_end = False
        self._changed = threading.Condition()

    def read(self, file: IO[str], end: str = "") -> None:
        """Read the file to its end, or to this line. Runs in a thread."""
        with file:
            for line in iter(file.readline, end):
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._at_end = True
            self._changed.notify_all()

    def wait_for(self, found: Callable[[list[str]], bool]) -> bool:
        """Wait until `found` returns True, or no line can come any more. Return what it returns."""
        with self._changed:
            self._changed.wait_for(lambda: self._at_end or found(self.lines), PATIENCE)
            return found(self.lines)


class Server:
    """A server that runs in a process of its own."""

    def __init__(self, kind: Kind, command: list[str], port: int, pipe: Path) -> None:
        self.kind = kind
        self.port = port
        self.log = Lines()
        self._records = Lines()
        self._names = iter(range(1_000_000))
        os.mkfifo(pipe)
        # Opened for reading and writing: `os.open` need not wait for the app, and the pipe does not
        # end when the app closes it, but with the line END.
        self._pipe = os.open(pipe, os.O_RDWR)
        self._process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "SERVER_MATRIX_PIPE": str(pipe)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # workers of the server must not outlive a test that fails
        )
        assert self._process.stdout is not None  # it is a pipe
        self._readers = [
            threading.Thread(target=self.log.read, args=[self._process.stdout]),
            threading.Thread(
                target=self._records.read, args=[os.fdopen(self._pipe, closefd=False), END]
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
        """Return a new connection, of the protocol that this kind is about."""
        return Http2(self.port) if self.kind.http2 else Http1(self.port)

    def new_name(self) -> str:
        """Return a name for the next request."""
        return f"request-{next(self._names)}"

    def records(self, name: str, what: str) -> list[Record]:
        """Return the app's records of this kind about a request so far."""
        every = [json.loads(line) for line in self._records.lines if f'"{name}"' in line]
        return [line for line in every if line["what"] == what]

    def wait_until(self, name: str, what: str) -> Record:
        """Wait for the app's first record of this kind about a request, and return it."""
        found = self._records.wait_for(lambda _: bool(self.records(name, what)))
        records, log = self._records.lines[-20:], self.log.lines[-20:]
        assert found, f"no record {what!r} of {name} in {records}; the log: {log}"
        return self.records(name, what)[0]

    def wait_for_more(self, name: str, what: str, times: int) -> None:
        """Wait for this many more records of this kind, or for the end of the request."""
        many = len(self.records(name, what)) + times
        found = self._records.wait_for(
            lambda _: len(self.records(name, what)) >= many or bool(self.records(name, "ended"))
        )
        assert found, f"no more records {what!r} of {name} in {self._records.lines[-20:]}"

    def cancellations(self, name: str) -> list[CancelReason]:
        """Return the reason of each cancellation of the request's token."""
        return [CancelReason(line["reason"]) for line in self.records(name, "cancelled")]

    def expect_a_clean_end(self, name: str) -> None:
        """Wait for the end of a request, and check what it leaves.

        The generator must be closed, no callback may be registered with the token, the middleware
        must have raised nothing, and the report must agree with the token.
        """
        self.wait_until(name, "closed")
        end = self.wait_until(name, "ended")
        assert (end["callbacks"], end["raised"]) == (0, None)
        cancelled = self.cancellations(name)
        expected = ("incomplete", cancelled[0]) if cancelled else ("completed", None)
        reported = [(line["outcome"], line["reason"]) for line in self.records(name, "reported")]
        assert reported == [expected]

    def fetch(self, path: str) -> bytes:
        """Return what the app answers outside of the middleware, on a new connection."""
        with self.connect() as client:  # gunicorn answers nothing but HTTP/2 on a port for HTTP/2
            client.ask(path)
            client.read_to_the_end()
            return client.body

    def left_behind(self) -> list[str]:
        """Return the tasks and timers of the middleware that do not end by themselves.

        Called when no request is being served. A task that was cancelled may need a loop iteration
        to end, so this waits.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            left: list[str] = json.loads(self.fetch("/state"))["left"]
            if not left or time.monotonic() > deadline:
                return left

    def tracebacks(self) -> list[str]:
        """Return the lines of the log from the first traceback on."""
        log = "\n".join(self.log.lines)
        if self.kind.server == "pyvoy":
            log = PYVOYS_OWN.sub("", log)
        lines = log.splitlines()
        first = next((n for n, line in enumerate(lines) if TRACEBACK in line), len(lines))
        return lines[first:]

    # The end of the server.

    def terminate(self) -> None:
        """Send SIGTERM, as an operator does."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Wait until the server has ended and all records are read. Return the exit code."""
        code = self._process.wait(2 * PATIENCE)  # tremolo takes 15 s
        os.write(self._pipe, b'{"request": "none", "what": "ended"}\n')
        self.wait_until("none", "ended")
        return code

    def end(self) -> None:
        """Terminate the server, and kill what is left of it."""
        self.terminate()
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._kill()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):  # all of its processes have ended
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
    """Run a server, and terminate it at the end of the block."""
    port = free_port()  # granian does not print the port that it has chosen for itself
    server = Server(kind, kind.command(port, app, limited=limited), port, directory / "pipe")
    try:
        yield server
    finally:
        server.end()
