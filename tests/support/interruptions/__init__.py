"""Requests that are interrupted at a chosen step, and what must be true of each afterwards.

A *step* is one callback of asyncio's loop, one step of a task on trio, or the moment before an idle
loop moves its clock. Both loops run in virtual time and in a fixed order, so step 17 of a scenario
is the same in each run, but for the order in which a group cancels its tasks.

- `case`: what a scenario and an interruption are, and the line that reproduces a case.
- `apps`: the apps. `server`: the server and the client.
- `on_asyncio`, `on_trio`: run a case, and return its `Record`.
- `verdict`: what is wrong with a record. It knows the contract, and no code of the package.

`python -m tests.support.interruptions CASE` runs one case, and prints what happened.
"""
