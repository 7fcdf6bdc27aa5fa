"""`transfer`: hands whole zones to other name servers, and tells them when a zone has changed."""

from kdns.plugins.transfer.options import setup

__all__ = ["setup"]
