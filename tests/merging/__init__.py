"""Merged deltas mean the same: to the SDKs that read them, and to the letter of each format."""
