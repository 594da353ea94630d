"""Show one agent's answer on a page, streamed three times: plain, batched and merged.

The answer is replayed, so the demo needs no network and no key. If OPENAI_BASE_URL and
OPENAI_API_KEY are set, the agent asks that server instead, for the model in OPENAI_MODEL.
"""

from __future__ import annotations

import argparse
import logging
import socket
import sys
from contextlib import suppress

from examples.demo.check import check
from examples.demo.server import Server, create_app


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 means any free port")
    parser.add_argument("--check", action="store_true", help="run a scripted client, no page")
    options = parser.parse_args()
    return check() if options.check else serve(options.host, options.port)


def serve(host: str, port: int) -> int:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        print(f"Cannot listen on {host} port {port}: {error.strerror}.", file=sys.stderr)
        print("Try another port: python -m examples.demo --port 8001", file=sys.stderr)
        return 1

    # The middleware logs a line for each client that leaves, which is part of the demo.
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    address = f"[{host}]" if ":" in host else host
    print(f"Open http://{address}:{listener.getsockname()[1]}/ (Ctrl-C stops it)", flush=True)
    # uvicorn raises the signal again after its shutdown. Ctrl-C is the intended end, no error.
    with listener, suppress(KeyboardInterrupt):
        Server(create_app()).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
