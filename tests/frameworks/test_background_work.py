"""In every framework, background tasks run in the same cases as without the middleware."""

from __future__ import annotations

from tests.frameworks.jobs import Job, Setup
from tests.frameworks.setups import (
    each_that_listens,
    each_with_background_tasks,
    streaming,
    whole_body,
)
from tests.support.streams import waiting


@each_with_background_tasks
def test_background_task_runs_after_a_whole_response(setup: Setup) -> None:
    """The task runs without the middleware, too."""
    bare, job = Job(bare=True), Job()
    for each in (bare, job):
        whole_body(setup, each)
    assert (bare.done, job.done) == (True, True)


@each_that_listens
def test_background_task_after_a_cut_response_runs_as_without_the_middleware(setup: Setup) -> None:
    """Frameworks differ: after a disconnect some run their background tasks, and some do not."""
    bare, job = Job(waiting, bare=True), Job(waiting)
    for each in (bare, job):
        with streaming(setup, each):
            pass
    assert job.done is bare.done
