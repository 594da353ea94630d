"""What each server tells of a client that leaves, of one that stops reading, and of its own end.

`make test-servers` runs it. What it finds is the tables of docs/servers.md.
"""
