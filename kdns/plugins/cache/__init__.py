"""`cache`: keeps replies for as long as they hold, in memory all workers of a pod share."""

from kdns.plugins.cache.setup import setup

__all__ = ["setup"]
