"""`kubernetes`: the names of a cluster, answered from the response table."""

from kdns.plugins.kubernetes.options import setup

__all__ = ["setup"]
