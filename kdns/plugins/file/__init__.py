"""`file`: zones from files in the form of RFC 1035."""

from kdns.plugins.file.options import setup

__all__ = ["setup"]
