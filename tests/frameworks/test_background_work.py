"""In every framework what is to be done after a response is done when it is without the middleware,
and only then."""

from __future__ import annotations

from tests.frameworks.jobs import Job, Setup
from tests.frameworks.setups import each_setup, streaming, whole_body
from tests.support.streams import waiting


@each_setup
def test_what_comes_after_a_whole_response_is_done(setup: Setup) -> None:
    """Background tasks run, as without the middleware."""
    bare, job = Job(bare=True), Job()
    for each in (bare, job):
        whole_body(setup, each)
    assert (bare.done, job.done) == (True, True)


@each_setup
def test_what_comes_after_a_cut_response_is_done_or_not(setup: Setup) -> None:
    """After a client that left in the middle, background tasks run if they do so without the
    middleware."""
    bare, job = Job(waiting, bare=True), Job(waiting)
    for each in (bare, job):
        with streaming(setup, each):
            pass
    assert job.done is bare.done
