"""Knot DNS."""

from __future__ import annotations

from bench.peers.peer import ADDRESS, Peer, first_line


class Knot(Peer):
    """Knot DNS with a UDP and a TCP worker a core; zone files only, no journal."""

    name = "knot"
    program = "knotd"
    package = "apt-get install knot"

    @classmethod
    def version(cls) -> str:
        """The first line of `knotd --version`."""
        return first_line([cls.find(), "--version"])

    def command(self) -> list[str]:
        """`knotd -c FILE`."""
        zones = "".join(
            f'  - domain: {zone}\n    file: "{path.resolve()}"\n' for zone, path in self.files.zones.items()
        )
        config = f"""\
server:
    rundir: "{self.folder}"
    pidfile: "{self.folder}/knot.pid"
    listen: {ADDRESS}@{self.port}
    udp-workers: {self.workers}
    tcp-workers: {self.workers}
    background-workers: 1
log:
  - target: stderr
    any: warning
database:
    storage: "{self.folder}"
template:
  - id: default
    storage: "{self.folder}"
    zonefile-load: whole
    zonefile-sync: -1
    journal-content: none
    semantic-checks: off
zone:
{zones}"""
        return [self.find(), "-c", str(self._write("knot.conf", config))]
