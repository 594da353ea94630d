"""What each server reports when a client leaves or stops reading, and when the server shuts down.

Run by `make test-servers`. The tables of docs/servers.md show what it finds.
"""
