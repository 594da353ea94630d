"""The count of instructions that a middleware adds to a request."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from starlette.types import Message

from benchmarks import instructions
from benchmarks.counted import METHODS, REQUESTS, RIVALS, answer


def response_of(rival: str, method: str) -> tuple[dict[bytes, bytes], bytes]:
    """Return the headers and the body that a rival sends."""
    start, *bodies = asyncio.run(answer(RIVALS[rival].app(), method))
    return dict(start["headers"]), b"".join(map(body_of, bodies))


def body_of(message: Message) -> bytes:
    body: bytes = message.get("body", b"")
    return body


@pytest.mark.parametrize(
    ("rival", "method"),
    [(rival, method) for method, rivals in METHODS.items() for rival in rivals],
)
def test_every_rival_serves_the_same_response(rival: str, method: str) -> None:
    """The difference of two counts would otherwise not be the cost of a middleware."""
    assert response_of(rival, method)[1] == response_of("none", method)[1] == b'{"hello":"world"}'


@pytest.mark.parametrize(
    ("rival", "header"),
    [("cors", b"access-control-allow-origin"), ("correlation-id", b"x-request-id")],
)
def test_a_rival_that_adds_a_header_does_so(rival: str, header: bytes) -> None:
    """A middleware that had nothing to do would look cheap."""
    assert header in response_of(rival, "GET")[0]
    assert header not in response_of("none", "GET")[0]


def test_start_up_is_not_counted(tmp_path: Path) -> None:
    """Two runs differ by the number of requests only. Start-up and imports are in both counts."""
    start_up, request = 700_000_000, 150_000
    for name, requests in (("1", REQUESTS), ("2", 2 * REQUESTS)):
        (tmp_path / name).write_text(f"fn=(1) main\n1 2\ntotals: {start_up + requests * request}\n")

    assert instructions.per_request(str(tmp_path), (1, 2)) == request


def test_the_table_compares_with_cors() -> None:
    """The comparison is of what each middleware adds, and not of the whole request."""
    found = instructions.compared({"none": 1000.0, "ours": 1100.0, "cors": 1400.0})

    assert found["ours"] == {"instructions": 1100, "added": 100, "of_cors": 0.25}
    assert instructions.row("ours", found["ours"]) == (
        "| **`SSEBatchingMiddleware`** | **1,100** | **100** | **25 %** |\n"
    )


def test_without_valgrind_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make bench` goes on with the other benchmarks."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr("sys.argv", ["instructions"])

    instructions.main()

    assert capsys.readouterr().out == (
        "instructions of a request: not counted, because valgrind is not installed\n"
    )
