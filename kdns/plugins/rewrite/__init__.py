"""`rewrite`: asks the rest of the chain another question than the client's, and changes the reply to fit."""

from kdns.plugins.rewrite.options import setup

__all__ = ["setup"]
