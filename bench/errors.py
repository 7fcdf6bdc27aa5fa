"""The errors of the bench: what was met, and what to do about it."""

from __future__ import annotations


class BenchError(Exception):
    """A run cannot go on: an argument out of range, a program missing, a right lacking."""


class StalledError(BenchError):
    """The sender of a load hardly sent anything; once more, it may."""


class PeerError(BenchError):
    """One server cannot be measured; the others can."""
