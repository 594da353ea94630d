"""The demo: one agent's answer streamed three times, side by side: plain, batched and merged.

Start it with ``python -m examples.demo``; ``--check`` runs the same server against a scripted
client and fails if the figures are wrong.
"""
