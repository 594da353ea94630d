"""The event loops of the property tests: virtual time, and no debug mode because it is slow."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import VIRTUAL_TRIO, with_new_clock
from tests.support.virtual_time import virtual_time_loop

LEAN = [
    pytest.param(("asyncio", {"loop_factory": virtual_time_loop}), id="virtual-time"),
    VIRTUAL_TRIO,
]


@pytest.fixture(params=LEAN)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return with_new_clock(request.param)
