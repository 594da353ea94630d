"""An app that streams without end, and whose module may configure the log as the page says."""

from __future__ import annotations

import logging
import os

from tests.frameworks.page import run, snippet_of
from tests.support.streams import Watched, ticking

if "CONFIGURE" in os.environ:
    run(snippet_of("uvicorn"), logging=logging)

app = Watched().stream(ticking)
