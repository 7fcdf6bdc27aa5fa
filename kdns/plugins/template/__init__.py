"""`template`: answers with records made of the question."""

from kdns.plugins.template.options import setup

__all__ = ["setup"]
