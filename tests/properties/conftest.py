"""The event loops of the property tests: virtual time, and no debug mode because it is slow."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import VIRTUAL_TRIO
from tests.support.virtual_time import VirtualTimeLoop

LEAN = [
    pytest.param(("asyncio", {"loop_factory": VirtualTimeLoop}), id="virtual-time"),
    VIRTUAL_TRIO,
]


@pytest.fixture(params=LEAN)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param
