"""kdns itself."""

from __future__ import annotations

import sys

from bench.errors import BenchError, PeerError
from bench.peers.peer import ADDRESS, Peer, first_line


class Kdns(Peer):
    """kdns from this tree, fed with manifests; `workers` may differ from the one that a core is for."""

    name = "kdns"
    program = "python"
    package = "kdns (pip install -e .)"
    corefile = """\
cluster.local in-addr.arpa ip6.arpa {
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa
    loadbalance
}
"""
    workers = 1
    reads = "manifests"

    @classmethod
    def find(cls) -> str:
        """The Python that runs the bench; raises PeerError if kdns cannot run in it."""
        cls.version()
        return sys.executable

    @classmethod
    def version(cls) -> str:
        """What `kdns -version` prints first."""
        command = [sys.executable, "-m", "kdns", "-version"]
        try:
            return first_line(command)
        except BenchError as error:
            raise PeerError(f"{cls.name}: cannot be run here ({error}); `make build` builds it") from error

    def command(self) -> list[str]:
        """`python -m kdns -conf FILE ...`."""
        return [
            *(sys.executable, "-m", "kdns"),
            *("-conf", str(self._write("Corefile", self.corefile))),
            *("-dns.port", str(self.port)),
            *("--manifests", str(self.files.manifests.resolve())),
            *("--workers", str(self.workers)),
        ]
