"""NSD."""

from __future__ import annotations

from bench.peers.peer import ADDRESS, Peer, first_line


class Nsd(Peer):
    """NSD with a server process a core; zone files only, no database."""

    name = "nsd"
    program = "nsd"
    package = "apt-get install nsd"

    @classmethod
    def version(cls) -> str:
        """The first line of `nsd -v`."""
        return first_line([cls.find(), "-v"], statuses=(0, 1))  # NSD ends with 1 after it told its version

    def command(self) -> list[str]:
        """`nsd -d -c FILE`."""
        paths = {zone: path.resolve() for zone, path in self.files.zones.items()}
        zones = "".join(f'zone:\n    name: "{zone}"\n    zonefile: "{path}"\n' for zone, path in paths.items())
        config = f"""\
server:
    ip-address: {ADDRESS}@{self.port}
    reuseport: {"yes" if self.workers > 1 else "no"}
    server-count: {self.workers}
    tcp-count: 200
    username: ""
    chroot: ""
    zonesdir: "{self.folder}"
    database: ""
    zonelistfile: "{self.folder}/zone.list"
    xfrdfile: "{self.folder}/xfrd.state"
    xfrdir: "{self.folder}"
    pidfile: "{self.folder}/nsd.pid"
    verbosity: 0
    minimal-responses: yes
    rrl-ratelimit: 0
    rrl-whitelist-ratelimit: 0
remote-control:
    control-enable: no
{zones}"""
        return [self.find(), "-d", "-c", str(self._write("nsd.conf", config))]
