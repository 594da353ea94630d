"""A search for faults: random requests through the middleware, and an oracle that judges them.

`make fuzz` runs it. One seed is one run. See `plan.py` for what a run draws, and `rules_*.py` for
what has to be true afterwards. The rules share no code with the package.
"""
