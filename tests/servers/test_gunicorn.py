"""The asgi worker of a real gunicorn."""

from __future__ import annotations

from tests.support.clients import Client
from tests.support.servers import server_process

GUNICORN = ("-m", "gunicorn", "--worker-class", "asgi", "--bind", "127.0.0.1:0")
APP = "tests.support.gunicorn_app:app"


def test_gunicorn_cancels_an_app_within_its_grace_period() -> None:
    """gunicorn's own period, of 3 seconds by default, ends before a longer `grace_period`: the app
    is cancelled while it cleans up. Pitfall 80."""
    command = (*GUNICORN, "--asgi-disconnect-grace-period", "1", APP)
    with server_process(*command) as (process, port):
        with Client(port) as client:
            client.ask()
            client.read_start()
            client.read_body(until=b"data: 0\n\n")
        process.expect("token: client_disconnected")
        process.expect("cancelled while it cleaned up")


def test_app_cleans_up_if_gunicorn_waits_long_enough() -> None:
    """With `--asgi-disconnect-grace-period` above `grace_period`, the app ends by itself."""
    command = (*GUNICORN, "--asgi-disconnect-grace-period", "60", APP)
    with server_process(*command) as (process, port):
        with Client(port) as client:
            client.ask("/short")
            client.read_start()
            client.read_body(until=b"data: 0\n\n")
        process.expect("token: client_disconnected")
        process.expect("cleaned up")
