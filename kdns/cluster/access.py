"""How one `kubernetes` directive reaches its API server."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_STARTUP_TIMEOUT = 5.0  # seconds, as CoreDNS
DEFAULT_RESYNC_SECONDS = 300.0  # between comparisons of what is served with what the API server has
MIN_RESYNC_SECONDS = 30.0  # each is a list of all metadata


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """The options of a directive about the API server; without any of the first three, the pod's service account."""

    endpoint: str = ""  # URL
    tls: tuple[str, ...] = ()  # files: certificate, key, CA
    kubeconfig: str = ""  # file
    context: str = ""  # of the kubeconfig; empty: its current one
    qps: float = 0.0  # requests a second; 0: no limit of ours
    burst: int = 0
    max_inflight: int = 0
    startup_timeout_seconds: float = DEFAULT_STARTUP_TIMEOUT
