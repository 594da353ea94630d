"""The demo: one agent's answer streamed twice, side by side, plain and batched.

Start it with ``python -m examples.demo``; ``--check`` runs the same server against a scripted
client and fails if the figures are wrong.
"""
