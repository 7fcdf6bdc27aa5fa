"""The errors of the bench: what was met, and what to do about it."""

from __future__ import annotations


class BenchError(Exception):
    """A run cannot go on: an argument out of range, a program missing, a right lacking."""


class PeerError(BenchError):
    """One server cannot be measured; the others can."""
