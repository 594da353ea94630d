"""The demo: one agent's answer, streamed three times side by side: plain, batched and merged.

`python -m examples.demo` starts it. With `--check` a scripted client reads from the same server,
and the command fails if the figures are wrong.
"""
