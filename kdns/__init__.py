"""kdns: cluster DNS for Kubernetes, answered from a precomputed table."""

__version__ = "0.1.0"
