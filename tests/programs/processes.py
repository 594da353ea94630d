"""Programs that run on uvicorn, each in a process and a virtual environment of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from tests.support.clients import Client
from tests.support.servers import REPOSITORY, Process, server_process

STARTUP: Final = 120.0
"""Seconds that a program may take to start: LiteLLM imports for half a minute."""


@contextmanager
def running(
    venv: str, module: str, environment: Mapping[str, str], *, launch: bool = False
) -> Iterator[tuple[Process, int]]:
    """Run the `app` of a module of this folder, with the programs of a virtual environment.

    Yield the process, and the port. With `launch` the module serves itself.
    """
    python = REPOSITORY / ".venv-programs" / venv / "bin" / "python"
    whole = f"tests.programs.{module}"
    command = ("-m", whole) if launch else ("-m", "uvicorn", f"{whole}:app", "--port", "0")
    with server_process(
        *command, python=str(python), startup=STARTUP, environment=environment
    ) as server:
        yield server


def post(client: Client, path: str, message: Any, *headers: tuple[str, str]) -> Any:
    """Post a message as JSON, and return the head of the response."""
    body = json.dumps(message).encode()
    client.ask(
        path,
        method="POST",
        headers=[("content-type", "application/json"), *headers],
        upload=len(body),
    )
    client.send_body(body)
    return client.read_start()
