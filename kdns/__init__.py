"""kdns: cluster DNS for Kubernetes, answered from a precomputed table."""

COREDNS_VERSION = "1.14.7"  # whose behaviour and output kdns follows
__version__ = "0.1.0"
