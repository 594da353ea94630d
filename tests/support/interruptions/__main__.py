"""Run one case, and print what happened: `python -m tests.support.interruptions CASE`."""

from __future__ import annotations

import dataclasses
import sys

from .case import parse
from .on_asyncio import Runner
from .verdict import faults


def main() -> None:
    case = parse(" ".join(sys.argv[1:]))
    if case.scenario.loop == "trio":
        from .on_trio import Runner as TrioRunner

        record, steps = TrioRunner().run(case)
    else:
        record, steps = Runner(eager=case.scenario.loop == "eager").run(case)
    print(f"{case}: {steps} steps")
    for field in dataclasses.fields(record):
        print(f"  {field.name}: {getattr(record, field.name)!r:.300}")
    for fault in faults(case, record):
        print("FAULT", fault)


if __name__ == "__main__":
    main()
